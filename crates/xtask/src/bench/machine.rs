//! Where a measurement runs: its core, and its folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set, to the number of cores, when the measuring half runs beside core 0 and not on it.
pub const PINNED: &str = "GATEWRIGHT_BENCH_CORES";

/// The measuring half of this program: it leaves core 0 to the server, on machines that have another. `first` puts it and what it starts
/// before the machine's other work, where this user may.
pub fn measuring_half(root: &Path, first: bool) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let finds = |program| crate::suite::tools::find_program(program).is_some();
    let pinned = cores > 1 && finds("taskset");
    println!("one core for the server: {}", if pinned { "core 0" } else { "no, this machine cannot be split" });
    let mut words = Vec::new();
    if first && crate::suite::tools::is_root() && finds("nice") {
        words.extend(["nice".to_owned(), "-n".to_owned(), "-15".to_owned()]);
    }
    if pinned {
        words.extend(["taskset".to_owned(), "-c".to_owned(), format!("1-{}", cores - 1)]);
    }
    words.push(crate::suite::target_folder(root).join("release/xtask").display().to_string());
    let mut command = Command::new(&words[0]);
    command.current_dir(root).args(&words[1..]).arg("bench-measure");
    if pinned {
        command.env(PINNED, cores.to_string());
    }
    command
}

/// A command on core 0, or on every core when `whole_machine` says so.
pub fn pinned(program: &Path, whole_machine: bool) -> Command {
    let Ok(cores) = std::env::var(PINNED) else { return Command::new(program) };
    let last = cores.parse().map_or(0, |n: usize| n.saturating_sub(1));
    let mut command = Command::new("taskset");
    command.args(["-c", &if whole_machine { format!("0-{last}") } else { "0".to_owned() }]).arg(program);
    command
}

/// A folder on the disk the repository lives on, so that a commit costs what it costs.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn fresh(root: &Path, name: &str) -> Result<Self, String> {
        let path = crate::suite::target_folder(root).join("bench").join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
