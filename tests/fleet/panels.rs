//! The panels of the dashboard: title, unit, description and expressions. `CHOSEN` in an expression is replaced with the matchers for
//! the selected clusters and nodes.

mod calls;
mod health;
mod paths;

/// The visualization of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Figure,
    Lines,
    Stacked,
    Heatmap,
}

/// A panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub kind: Kind,
    pub title: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    pub description: &'static str,
    /// Expressions, each with its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

// === impl Kind ===

impl Kind {
    /// Width and height in the grid.
    pub fn size(self) -> (u64, u64) {
        match self {
            Kind::Figure => (4, 4),
            Kind::Lines | Kind::Stacked => (8, 8),
            Kind::Heatmap => (12, 9),
        }
    }
}

const fn panel(
    kind: Kind,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { kind, title, unit, description, queries }
}

/// The rows, in order.
pub const ROWS: &[(&str, &[Panel])] = &[
    ("Health", health::HEALTH),
    ("Evented against generic", paths::PATHS),
    ("Arbitration", paths::ARBITRATION),
    ("Subscribers", calls::SUBSCRIBERS),
    ("Runtime calls", calls::RUNTIME),
    ("Process", health::PROCESS),
];
