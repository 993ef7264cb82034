//! Builds the embedded `hello-world` image: a program without any library, in two layers, as a docker-archive.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;

const PROGRAM: &str = "hello_world/program.rs";
/// Every file's time, so that the image is the same wherever it is built: 2026-01-01.
const TIME: u64 = 1_767_225_600;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROGRAM}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let program = compile(&out)?;
    let first = layer(&[
        ("hello", 0o755, &program),
        ("message", 0o644, b"Hello from the first layer.\n"),
    ])?;
    let second = layer(&[("message", 0o644, b"Hello from the second layer!\n")])?;
    fs::write(out.join("hello-world.tar"), archive(&[first, second])?)?;
    Ok(())
}

fn compile(out: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let file = out.join("hello");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let target = env::var("TARGET")?;
    let mut command = Command::new(rustc);
    command
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "hello",
            "--target",
            &target,
        ])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "target-feature=+crt-static",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-C",
            "link-arg=-static",
        ])
        .args([
            "-C",
            "link-arg=-no-pie",
            "-C",
            "link-arg=-Wl,--build-id=none",
        ])
        .arg("-o")
        .arg(&file)
        .arg(PROGRAM);
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(fs::read(file)?)
}

fn layer(files: &[(&str, u32, &[u8])]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        append(&mut tar, name, *mode, content)?;
    }
    Ok(tar.into_inner()?)
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<(), Box<dyn Error>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    tar.append_data(&mut header, name, content)?;
    Ok(())
}

fn archive(layers: &[Vec<u8>]) -> Result<Vec<u8>, Box<dyn Error>> {
    let architecture = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    };
    let created = "2026-01-01T00:00:00Z";
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": { "Cmd": ["/hello"], "WorkingDir": "/", "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>() },
        "history": [
            { "created": created, "created_by": "COPY hello message /" },
            { "created": created, "created_by": "COPY message /" },
            { "created": created, "created_by": "CMD [\"/hello\"]", "empty_layer": true },
        ],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", digest(&config).trim_start_matches("sha256:"));
    let names: Vec<String> = (1..=layers.len())
        .map(|number| format!("layer{number}.tar"))
        .collect();
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": ["hello-world:latest"],
        "Layers": names,
    }]);
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, &config_name, 0o644, &config)?;
    for (name, layer) in names.iter().zip(layers) {
        append(&mut tar, name, 0o644, layer)?;
    }
    append(
        &mut tar,
        "manifest.json",
        0o644,
        &serde_json::to_vec(&manifest)?,
    )?;
    Ok(tar.into_inner()?)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
