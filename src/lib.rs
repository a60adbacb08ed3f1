//! plegd
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod health;
pub mod metrics;
pub mod model;
pub mod version;
/// generated
#[allow(missing_docs, unreachable_pub)]
pub mod cri {
    /// generated
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/cri/runtime.v1.rs"));
    }
}
/// generated
pub mod sim {
    /// generated
    #[allow(missing_docs, unreachable_pub)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/sim/runtime.v1.rs"));
    }
}
