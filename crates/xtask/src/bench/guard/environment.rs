//! The Python the contenders run on, and our package in it as it is handed out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the scripts are.
pub fn scripts(root: &Path) -> PathBuf {
    root.join("benches/guard")
}

/// The Python of an environment with the contenders, made once for each content of their requirements; with our package when `ours`.
pub fn provide(root: &Path, ours: bool) -> Result<PathBuf, String> {
    let requirements = scripts(root).join("requirements.txt");
    let text = std::fs::read(&requirements).map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    let version = Command::new("python3").arg("--version").output().map_err(|error| format!("python3 did not start: {error}"))?;
    let mut hasher = DefaultHasher::new();
    (text, version.stdout).hash(&mut hasher);
    let folder = crate::suite::target_folder(root).join("test-env").join(format!("guard-bench-{:012x}", hasher.finish() >> 16));
    let python = folder.join("bin/python");
    if !folder.join("complete").exists() {
        println!("installing benches/guard/requirements.txt");
        let _ = std::fs::remove_dir_all(&folder);
        succeed(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "python3 has no venv module (Debian, Ubuntu: apt install python3-venv)",
        )?;
        let mut install = pip(&python);
        succeed(install.arg("-r").arg(&requirements), "pip could not install benches/guard/requirements.txt")?;
        std::fs::write(folder.join("complete"), "").map_err(|error| error.to_string())?;
    }
    if ours {
        let wheel = match std::env::var_os("GATEWRIGHT_WHEEL") {
            Some(wheel) => PathBuf::from(wheel),
            None => build_wheel(root, &python)?,
        };
        println!("measured wheel: {}", wheel.display());
        let mut install = pip(&python);
        succeed(install.args(["--force-reinstall", "--no-deps"]).arg(&wheel), "pip could not install the wheel")?;
    }
    Ok(python)
}

/// The extension as it is handed out (`cargo xtask wheel`), without waiting for the server that comes with it.
fn build_wheel(root: &Path, python: &Path) -> Result<PathBuf, String> {
    let target = crate::suite::target_folder(root);
    let (out, data) = (target.join("bench/wheels"), target.join("wheel-data/scripts"));
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
    let mut build = Command::new(python);
    build.current_dir(root).args(["-m", "maturin", "build", "--quiet", "--locked", "--profile", "dist"]);
    build.args(["--manifest-path", "python/Cargo.toml", "--compatibility", "linux", "--compression-level", "1", "--out"]).arg(&out);
    succeed(&mut build, "maturin could not build python/")?;
    let built = std::fs::read_dir(&out).map_err(|error| error.to_string())?;
    let wheels: Vec<PathBuf> =
        built.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "whl")).collect();
    match wheels.as_slice() {
        [wheel] => Ok(wheel.clone()),
        _ => Err(format!("maturin left {} wheels in {}", wheels.len(), out.display())),
    }
}

fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    command
}

fn succeed(command: &mut Command, otherwise: &str) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(otherwise.to_owned()),
        Err(error) => Err(format!("{otherwise}: {error}")),
    }
}
