//! plegd
fn main() {}
