//! placeholder
/// x
#[derive(Debug)]
pub struct Churn;
