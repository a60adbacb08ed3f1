//! Messages and clients of the package `plegd.v1`, generated from `proto/plegd/v1`.

include!(concat!(env!("OUT_DIR"), "/api/plegd.v1.rs"));
