//! The lab's two images, built from one static busybox: an OCI image layout in a tar archive, for `ctr images import`.
//!
//! Owns their names and commands. There is no registry, and nothing is pulled.

use std::{fs, fs::File, io::Write, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The image of pod sandboxes: it sleeps without end.
pub const PAUSE: &str = "localhost/pause:1";
/// The image of containers: busybox with any command.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// Writes both images as one archive to `to`.
pub fn write_archive(busybox: &Path, to: &Path) -> Result<()> {
    let binary = fs::read(busybox).with_context(|| format!("reading {}", busybox.display()))?;
    let layer = layer(&binary)?;
    let mut layout = Layout { tar: tar::Builder::new(File::create(to)?), architecture: architecture() };
    layout.file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes())?;
    let layer_descriptor = layout.blob("application/vnd.oci.image.layer.v1.tar", &layer)?;
    // containerd ends a sandbox with SIGKILL, so PID 1 needs no signal handler.
    let pause = ["/bin/busybox", "sleep", "2147483647"];
    let manifests = [
        layout.image(PAUSE, &layer_descriptor, &pause)?,
        layout.image(BUSYBOX, &layer_descriptor, &["/bin/busybox", "sh"])?,
    ];
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    layout.file("index.json", index.to_string().as_bytes())?;
    layout.tar.into_inner()?.flush()?;
    Ok(())
}

/// A root file system with one binary and links to it.
fn layer(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, format!("{directory}/"), std::io::empty())?;
    }
    let mut file = header(tar::EntryType::Regular, 0o755, busybox.len());
    tar.append_data(&mut file, "bin/busybox", busybox)?;
    for name in ["sh", "sleep", "true", "false", "cat", "echo", "tail"] {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{name}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The image architecture of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Layout {
    tar: tar::Builder<File>,
    architecture: &'static str,
}

impl Layout {
    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len());
        Ok(self.tar.append_data(&mut header, path, content)?)
    }

    /// Adds content and returns its descriptor.
    fn blob(&mut self, media_type: &str, content: &[u8]) -> Result<Value> {
        let digest = hex_digest(content);
        self.file(&format!("blobs/sha256/{digest}"), content)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() }))
    }

    /// Adds the configuration and the manifest of an image; returns the manifest's descriptor with the image's name.
    fn image(&mut self, name: &str, layer: &Value, command: &[&str]) -> Result<Value> {
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/" },
            // The layer is not compressed, so its digest is that of its content.
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let mut manifest = self.blob(kind, manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        manifest["annotations"] = json!({ "io.containerd.image.name": name });
        Ok(manifest)
    }
}

fn hex_digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
