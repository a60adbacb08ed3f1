//! plegd
pub mod clock;
pub mod config;
pub mod health;
pub mod metrics;
pub mod model;
pub mod version;
pub mod arbiter;
pub mod cache;
pub mod cri;
pub mod evented;
pub mod journal;
pub mod ledger;
pub mod relister;
pub mod supervisor;
pub mod app;
/// generated
pub mod sim {
    /// generated
    #[allow(missing_docs, unreachable_pub)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/sim/runtime.v1.rs"));
    }
}
