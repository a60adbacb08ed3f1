//! Prometheus' text format, one metric after the other.
//!
//! A registry gathers all of them before the first is written, which takes half a megabyte for a moment; and the allocator keeps
//! it for each thread that has served a scrape.

use std::collections::BTreeMap;

use prometheus::{TextEncoder, core::Collector, proto::LabelPair};

/// What a scrape is long, or a little more, in bytes: allotted once, it leaves no smaller pieces behind.
const LENGTH: usize = 64 << 10;

/// All metrics, by name.
#[derive(Default)]
pub(super) struct Exposition(BTreeMap<String, Box<dyn Collector>>);

// === impl Exposition ===

impl Exposition {
    /// Takes in a metric. Gives its name back if another one has it already.
    pub(super) fn add(&mut self, metric: Box<dyn Collector>) -> Result<(), String> {
        let name = metric.desc().first().map(|desc| desc.fq_name.clone()).unwrap_or_default();
        self.0.insert(name.clone(), metric).map_or(Ok(()), |_| Err(name))
    }

    /// What they are now, in the order of their names, each one's samples in the order of their labels.
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
