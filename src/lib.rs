//! plegd
pub mod app;
pub mod arbiter;
pub mod cache;
pub mod clock;
pub mod config;
pub mod cri;
pub mod evented;
pub mod health;
pub mod journal;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod relister;
pub mod sim;
pub mod supervisor;
pub mod version;
