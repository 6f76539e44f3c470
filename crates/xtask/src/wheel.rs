//! `cargo xtask wheel`: the Python package with the extension and the server in one file.
//!
//! maturin builds the extension; the server goes into its data folder, whose `scripts` end up in the `bin` of whoever installs the wheel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::suite::{cargo, target_folder, tools};

/// Where `python/pyproject.toml` says that the server lies.
const DATA: &str = "target/wheel-data";

/// Builds both and the wheel, and says where it is. `debug` builds fast and runs slowly: for tests.
pub fn build(root: &Path, debug: bool) -> Result<PathBuf, String> {
    let (profile, folder) = if debug { ("dev", "debug") } else { ("dist", "dist") };
    let mut server = Command::new(cargo());
    server.args(["build", "--package", "gatewright", "--locked", "--quiet", "--profile", profile]);
    run(&mut server, root, "the server did not build")?;
    let server = put_server(&target_folder(root).join(folder).join("gatewright"), &root.join(DATA).join("scripts"))?;

    let wheels = target_folder(root).join("wheels");
    let maturin = maturin(root)?;
    let pack = |more: &[&str]| {
        remove_wheels(&wheels)?;
        let mut build = Command::new(&maturin);
        build.args(["build", "--quiet", "--locked", "--profile", profile, "--manifest-path", "python/Cargo.toml", "--out"]).arg(&wheels);
        run(build.args(more), root, "the wheel did not build")?;
        find_wheel(&wheels)?.ok_or_else(|| format!("maturin left no wheel in {}", wheels.display()))
    };
    if debug {
        // Stays on this machine: no audit of what it links, little time for its size.
        return pack(&["--compatibility", "linux", "--compression-level", "1"]);
    }
    // maturin names the oldest glibc that the extension runs with, and does not look at the server.
    let wheel = pack(&[])?;
    let needed = glibc_of(&std::fs::read(&server).map_err(|error| format!("cannot read {}: {error}", server.display()))?);
    match promised_glibc(&wheel) {
        Some(promised) if promised < needed => pack(&["--compatibility", &format!("manylinux_2_{needed}")]),
        _ => Ok(wheel),
    }
}

/// The newest 2.x of glibc that a binary names among the versions of its symbols.
fn glibc_of(binary: &[u8]) -> u32 {
    const NAME: &[u8] = b"GLIBC_2.";
    let starts = binary.windows(NAME.len()).enumerate().filter(|(_, bytes)| *bytes == NAME).map(|(at, _)| at + NAME.len());
    let number = |at: usize| {
        let digits = binary.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).take(3);
        std::str::from_utf8(&digits.copied().collect::<Vec<u8>>()).ok()?.parse().ok()
    };
    starts.filter_map(number).max().unwrap_or(0)
}

/// The 2.x in `manylinux_2_x`; nothing for wheels that promise no glibc.
fn promised_glibc(wheel: &Path) -> Option<u32> {
    let name = wheel.file_name()?.to_str()?;
    name.split_once("manylinux_2_")?.1.split('_').next()?.parse().ok()
}

fn run(command: &mut Command, root: &Path, otherwise: &str) -> Result<(), String> {
    let status = command.current_dir(root).stdin(Stdio::null()).status();
    match status.map_err(|error| format!("{:?} did not start: {error}", command.get_program()))? {
        status if status.success() => Ok(()),
        _ => Err(format!("{otherwise}; see above")),
    }
}

fn put_server(binary: &Path, scripts: &Path) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| format!("cannot put {} into {}: {error}", binary.display(), scripts.display());
    std::fs::create_dir_all(scripts).map_err(failed)?;
    let target = scripts.join("gatewright");
    std::fs::copy(binary, &target).map_err(failed)?;
    // Half of a debug binary is for debuggers.
    tools::answers("strip", &["--strip-debug", &target.display().to_string()]);
    Ok(target)
}

fn remove_wheels(wheels: &Path) -> Result<(), String> {
    while let Some(wheel) = find_wheel(wheels)? {
        std::fs::remove_file(&wheel).map_err(|error| format!("cannot remove {}: {error}", wheel.display()))?;
    }
    Ok(())
}

fn find_wheel(wheels: &Path) -> Result<Option<PathBuf>, String> {
    let Ok(entries) = std::fs::read_dir(wheels) else { return Ok(None) };
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.find(|path| path.extension().is_some_and(|end| end == "whl")))
}

/// The maturin that `python/pyproject.toml` asks for, in an environment of its own.
fn maturin(root: &Path) -> Result<PathBuf, String> {
    let wanted = build_requirements(root)?;
    let venv = target_folder(root).join("test-tools/maturin");
    tools::make_venv(&venv, &wanted)?;
    Ok(venv.join("bin/maturin"))
}

fn build_requirements(root: &Path) -> Result<Vec<String>, String> {
    let path = root.join("python/pyproject.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let project: toml::Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let requires = project.get("build-system").and_then(|table| table.get("requires")).and_then(toml::Value::as_array);
    let requires = requires.ok_or_else(|| format!("{}: build-system.requires is missing", path.display()))?;
    Ok(requires.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builder_is_the_one_the_package_asks_for() {
        let wanted = build_requirements(&crate::root()).unwrap();
        assert!(wanted.len() == 1 && wanted[0].starts_with("maturin>="), "{wanted:?}");
    }

    #[test]
    fn the_wheel_promises_the_glibc_that_the_server_needs() {
        let binary = b"\0hypot\0GLIBC_2.2.5\0GLIBC_2.35\0GLIBC_2.4\0libc.so.6\0GLIBC_PRIVATE\0GLIBC_2.";
        assert_eq!((glibc_of(binary), glibc_of(b"musl")), (35, 0));
        let promised = |name: &str| promised_glibc(Path::new(name));
        assert_eq!(promised("target/wheels/gatewright-0.1.0-cp310-abi3-manylinux_2_34_x86_64.whl"), Some(34));
        assert_eq!(promised("gatewright-0.1.0-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"), Some(17));
        assert_eq!(promised("gatewright-0.1.0-cp310-abi3-linux_x86_64.whl"), None);
    }

    #[test]
    fn an_older_wheel_is_never_taken_for_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["gatewright-0.1.0-cp310-abi3-linux_x86_64.whl", "gatewright-0.0.9-cp310-abi3-linux_x86_64.whl", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove_wheels(folder.path()).unwrap();
        assert_eq!(find_wheel(folder.path()).unwrap(), None);
        assert!(folder.path().join("notes.txt").exists());
    }
}
