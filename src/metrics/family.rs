//! Metrics whose labels are enums: every child exists from the start, and call sites choose one by type.

use std::{cell::RefCell, marker::PhantomData, time::Duration};

use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts,
    core::{Collector, Metric, MetricVec, MetricVecBuilder},
};

use super::exposition::Exposition;

/// A label with a fixed set of values.
pub trait Label: Copy + 'static {
    /// All values, each at the index of its discriminant.
    const ALL: &'static [Self];

    /// The exposed value.
    fn as_str(self) -> &'static str;

    /// Its index in [`Label::ALL`].
    fn index(self) -> usize;
}

/// One or more labels, which together choose one child of a family.
pub trait Labels: Copy {
    /// All combinations, each at its [`Labels::index`].
    fn all() -> Vec<Self>;

    /// The index of this combination.
    fn index(self) -> usize;

    /// The values in the order of the labels' names.
    fn values(self) -> Vec<&'static str>;
}

/// A metric for each value of its labels.
pub struct Family<L, M> {
    children: Vec<M>,
    labels: PhantomData<fn(L)>,
}

/// Creates metrics, and keeps them for scrapes.
#[derive(Default)]
pub(super) struct Registry(RefCell<Exposition>);

/// Declares an enum that is a [`Label`].
macro_rules! label {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $value_doc:literal])+ $value:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $value_doc])+ $value,)+
        }

        impl $crate::metrics::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use label;

// === impl Labels ===

impl<A: Label> Labels for A {
    fn all() -> Vec<Self> {
        A::ALL.to_vec()
    }

    fn index(self) -> usize {
        Label::index(self)
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.as_str()]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn all() -> Vec<Self> {
        A::ALL.iter().flat_map(|&a| B::ALL.iter().map(move |&b| (a, b))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str()]
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    fn all() -> Vec<Self> {
        <(A, B)>::all().into_iter().flat_map(|(a, b)| C::ALL.iter().map(move |&c| (a, b, c))).collect()
    }

    fn index(self) -> usize {
        (self.0, self.1).index() * C::ALL.len() + self.2.index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str(), self.2.as_str()]
    }
}

// === impl Family ===

impl<L: Labels, M> Family<L, M> {
    /// The metric for these values.
    pub fn with(&self, labels: L) -> &M {
        &self.children[labels.index()]
    }
}

impl<L: Labels, M: Metric> Family<L, M> {
    fn new<B: MetricVecBuilder<M = M>>(vec: &MetricVec<B>) -> Self {
        let children = L::all().into_iter().map(|labels| vec.with_label_values(&labels.values())).collect();
        Self { children, labels: PhantomData }
    }
}

impl<L: Labels> Family<L, IntCounter> {
    /// Adds one.
    pub fn inc(&self, labels: L) {
        self.with(labels).inc();
    }
}

impl<L: Labels> Family<L, Histogram> {
    /// Records a duration.
    pub fn observe(&self, labels: L, time: Duration) {
        self.with(labels).observe(time.as_secs_f64());
    }
}

impl<L: Label> Family<L, IntGauge> {
    /// Sets every value of the label, so that none keeps an outdated number.
    pub fn set_each(&self, value: impl Fn(L) -> usize) {
        for &label in L::ALL {
            self.with(label).set(i64::try_from(value(label)).unwrap_or(i64::MAX));
        }
    }

    /// Sets this value of the label to 1 and all others to 0.
    pub fn set_only(&self, only: L) {
        self.set_each(|label| usize::from(Label::index(label) == Label::index(only)));
    }
}

// === impl Registry ===

impl Registry {
    /// All metrics created so far.
    pub(super) fn into_exposition(self) -> Exposition {
        self.0.into_inner()
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    pub(super) fn seconds_counter(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::new(name, help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    pub(super) fn seconds_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    pub(super) fn counters<L: Labels>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Family<L, IntCounter> {
        Family::new(&self.register(IntCounterVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn gauges<L: Labels>(&self, name: &str, help: &str, labels: &[&str]) -> Family<L, IntGauge> {
        Family::new(&self.register(IntGaugeVec::new(Opts::new(name, help), labels)))
    }

    pub(super) fn histograms<L: Labels>(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Family<L, Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        Family::new(&self.register(HistogramVec::new(options, labels)))
    }

    /// A gauge of value 1 whose labels carry the information.
    pub(super) fn info(&self, name: &str, help: &str, labels: &[(&str, &str)]) {
        let mut options = Opts::new(name, help);
        for (label, value) in labels {
            options = options.const_label(*label, *value);
        }
        self.register(IntGauge::with_opts(options)).set(1);
    }

    // Names, labels and buckets are constants of this program, and every test that creates metrics creates all of
    // them.
    #[allow(clippy::expect_used)]
    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("a metric's name, labels and buckets are valid");
        self.0.borrow_mut().add(Box::new(metric.clone())).expect("no other metric has this name");
        metric
    }
}
