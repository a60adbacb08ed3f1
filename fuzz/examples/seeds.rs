//! Writes the seeds of a target, or of all, into `fuzz/corpus`: `cargo run --example seeds [target]`.

use std::{env, fs, path::Path};

use plegd_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    let only = env::args().nth(1);
    for target in TARGETS.iter().filter(|target| only.as_deref().is_none_or(|name| name == target.name)) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&directory)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(directory.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}
