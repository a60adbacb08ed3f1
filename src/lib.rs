//! plegd
pub mod clock;
pub mod model;
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
