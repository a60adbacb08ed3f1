//! What lies in `deploy/` says what the program says.

use plegd::config::{Config, Inputs, load};

/// Made by `UPDATE_DEPLOY=1 cargo test --test deploy`.
#[test]
fn the_sample_configuration_has_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/plegd.toml");
    let expected = Config::default().to_toml();
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    let loaded = load(&Inputs { file: Some(path.into()), ..Inputs::default() }).unwrap();
    assert_eq!(loaded.config, Config::default());
}
