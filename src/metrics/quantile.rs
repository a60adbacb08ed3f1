//! Quantiles of a histogram, for users without Prometheus.

use std::time::Duration;

use prometheus::{Histogram, core::Metric as _};

/// Quantiles of durations, estimated from a histogram's buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Number of samples.
    pub count: u64,
    /// Median.
    pub p50: Option<Duration>,
    /// 99th percentile.
    pub p99: Option<Duration>,
}

// === impl Spread ===

impl Spread {
    /// The quantiles of several histograms with the same buckets, taken together.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        let mut count = 0;
        for histogram in histograms {
            let metric = histogram.metric();
            let histogram = metric.get_histogram();
            count += histogram.get_sample_count();
            for (at, bucket) in histogram.get_bucket().iter().enumerate() {
                match buckets.get_mut(at) {
                    Some((_, sum)) => *sum += bucket.cumulative_count(),
                    None => buckets.push((bucket.upper_bound(), bucket.cumulative_count())),
                }
            }
        }
        let at = |part| quantile(&buckets, count, part);
        Self { count, p50: at(0.5), p99: at(0.99) }
    }
}

/// As Prometheus' `histogram_quantile`: linear within a bucket; above the last bound, that bound.
fn quantile(buckets: &[(f64, u64)], count: u64, part: f64) -> Option<Duration> {
    if count == 0 {
        return None;
    }
    let rank = part * count as f64;
    let (mut low, mut below) = (0.0, 0);
    for &(bound, cumulative) in buckets {
        if cumulative as f64 >= rank && cumulative > below {
            let within = (rank - below as f64) / (cumulative - below) as f64;
            return Duration::try_from_secs_f64(low + (bound - low) * within.clamp(0.0, 1.0)).ok();
        }
        (low, below) = (bound, cumulative);
    }
    Duration::try_from_secs_f64(low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_estimated_within_their_bucket() {
        let buckets = [(0.1, 0), (0.2, 10), (0.4, 10), (1.0, 20)];
        assert_eq!(quantile(&buckets, 20, 0.25), Some(Duration::from_millis(150)));
        assert_eq!(quantile(&buckets, 20, 0.5), Some(Duration::from_millis(200)));
        assert_eq!(quantile(&buckets, 20, 0.75), Some(Duration::from_millis(700)));
        assert_eq!(quantile(&buckets, 40, 0.99), Some(Duration::from_secs(1)));
        assert_eq!(quantile(&buckets, 0, 0.5), None);
    }
}
