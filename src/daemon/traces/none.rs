//! Replacement of the exporter in builds without the feature `otlp`. Sends no traces.

#[derive(Debug)]
pub struct Traces;

// === impl Traces ===

impl Traces {
    pub fn begin(_node: &str) -> Self {
        Self
    }

    pub fn end(self) {}
}
