//! What plegd serves: metrics and health over HTTP.
//!
//! Reads what others keep and changes nothing. It never reaches past cache and journal.

pub mod http;
