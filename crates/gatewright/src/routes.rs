use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::failure::Failure;

/// Audits the routes of a Python app. An app can only be read by the Python it runs in, with its packages: this command finds that
/// Python and becomes it.
pub fn audit(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let own = std::env::current_exe().ok();
    let venv = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = pythons(own.as_deref(), venv.as_deref(), std::env::split_paths(&path));
    let python = candidates.into_iter().find(|python| has_package(python)).ok_or_else(|| {
        Failure::new(
            "routes audit runs in your app's Python, and no Python here has the gatewright package; \
             in your app's environment: pip install gatewright",
        )
    })?;
    let error = Command::new(&python).args(["-m", "gatewright", "routes", "audit"]).args(arguments).exec();
    Err(Failure::new(format!("{} did not start: {error}; run python -m gatewright routes audit yourself", python.display())))
}

/// Where the app's Python may be, the likeliest first: beside this command in a virtual environment, the active environment, `PATH`.
fn pythons(own: Option<&Path>, venv: Option<&Path>, path: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let beside = own.and_then(Path::parent).map(Path::to_path_buf);
    let active = venv.map(|venv| venv.join("bin"));
    let folders = beside.into_iter().chain(active).chain(path);
    let mut found: Vec<PathBuf> = Vec::new();
    for python in folders.flat_map(|folder| ["python3", "python"].map(|name| folder.join(name))) {
        if python.is_file() && !found.contains(&python) {
            found.push(python);
        }
    }
    found
}

fn has_package(python: &Path) -> bool {
    // Not just `gatewright`: any folder of that name would do for Python.
    const ASK: &str = "import importlib.util, sys; sys.exit(importlib.util.find_spec('gatewright.audit') is None)";
    let mut command = Command::new(python);
    command.args(["-c", ASK]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_beside_the_command_comes_before_the_active_one_and_the_path() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            file
        };
        let beside = make("own/bin/python3");
        let active = make("venv/bin/python");
        let elsewhere = make("usr/bin/python3");
        let found = pythons(
            Some(&root.path().join("own/bin/gatewright")),
            Some(&root.path().join("venv")),
            ["usr/bin", "own/bin", "nowhere"].map(|folder| root.path().join(folder)).into_iter(),
        );
        assert_eq!(found, [beside, active, elsewhere]);
    }

    #[test]
    fn a_python_without_the_package_will_not_do() {
        assert!(!has_package(Path::new("/bin/false")));
        assert!(!has_package(Path::new("/no/such/python")));
    }
}
