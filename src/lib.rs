//! plegd
pub mod clock;
/// generated
#[allow(missing_docs, unreachable_pub)]
pub mod cri {
    /// generated
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/cri/runtime.v1.rs"));
    }
}
pub mod sim;
