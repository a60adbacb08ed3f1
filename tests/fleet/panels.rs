//! What is on the dashboard: every panel with its unit, what it tells, and its expressions. `CHOSEN` stands for the nodes that
//! are chosen above the panels.

mod calls;
mod health;
mod paths;

/// How a panel looks.
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
    /// Grafana's name of it.
    pub unit: &'static str,
    pub description: &'static str,
    /// Expressions, each with its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

// === impl Kind ===

impl Kind {
    /// Columns and lines of the grid.
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
