//! Prometheus' text format, written one metric at a time.
//!
//! A `prometheus::Registry` gathers all metrics before it writes the first, which takes half a megabyte for a moment;
//! and the allocator keeps that memory for each thread that has served a scrape.

use std::collections::BTreeMap;

use prometheus::{TextEncoder, core::Collector, proto::LabelPair};

/// Initial buffer for a scrape in bytes, slightly more than its length: one allocation leaves no smaller pieces
/// behind.
const LENGTH: usize = 64 << 10;

/// All metrics, by name.
#[derive(Default)]
pub(super) struct Exposition(BTreeMap<String, Box<dyn Collector>>);

// === impl Exposition ===

impl Exposition {
    /// Adds a metric. The error is its name, if another metric has it.
    pub(super) fn add(&mut self, metric: Box<dyn Collector>) -> Result<(), String> {
        let name = metric.desc().first().map(|desc| desc.fq_name.clone()).unwrap_or_default();
        self.0.insert(name.clone(), metric).map_or(Ok(()), |_| Err(name))
    }

    /// The current values, ordered by name, and the samples of a metric ordered by label values.
    pub(super) fn text(&self) -> prometheus::Result<String> {
        let (encoder, mut text) = (TextEncoder::new(), String::with_capacity(LENGTH));
        for metric in self.0.values() {
            let mut families = metric.collect();
            families.retain(|family| !family.get_metric().is_empty());
            for family in &mut families {
                family.mut_metric().sort_by(|one, other| {
                    let values =
                        |metric| prometheus::proto::Metric::get_label(metric).iter().map(LabelPair::value);
                    values(one).cmp(values(other))
                });
            }
            encoder.encode_utf8(&families, &mut text)?;
        }
        Ok(text)
    }
}
