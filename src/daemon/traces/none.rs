//! Replacement for the exporter, built without the feature `otlp`: sends nothing.

#[derive(Debug)]
pub struct Traces;

// === impl Traces ===

impl Traces {
    pub fn begin(_node: &str) -> Self {
        Self
    }

    pub fn end(self) {}
}
