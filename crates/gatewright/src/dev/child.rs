//! The app that runs beside the server: started with its settings, ended with it.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// Time an app has to end by itself.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A running app.
pub struct App {
    child: Child,
    /// In a group of its own the whole tree can be ended. At a terminal it stays in ours, so that it may read from it and Ctrl-C reaches it.
    own_group: bool,
}

impl App {
    /// Starts `command` with `variables` in its environment.
    pub fn start(command: &[OsString], variables: &[(&'static str, String)]) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("no command after --; write gatewright dev -- COMMAND"));
        };
        let own_group = !std::io::stdin().is_terminal();
        let mut app = Command::new(program);
        app.args(arguments).envs(variables.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        if own_group {
            app.process_group(0);
        }
        let child = app.spawn().map_err(|error| {
            let remedy =
                if error.kind() == std::io::ErrorKind::NotFound { "check its name and your PATH" } else { "check that it can be run" };
            Failure::new(format!("{} cannot be started: {}; {remedy}", program.to_string_lossy(), crate::serve::plain(&error)))
        })?;
        Ok(Self { child, own_group })
    }

    /// Waits for its end and gives its exit status as a shell would: 128 and the number of the signal that ended it.
    pub async fn wait(&mut self) -> u8 {
        self.child.wait().await.map_or(1, exit_code)
    }

    /// Asks it to end, and ends it if it does not. `interrupted`: Ctrl-C at a terminal has told it already.
    pub async fn stop(mut self, interrupted: bool) {
        if interrupted && !self.own_group && tokio::time::timeout(END_WITHIN / 2, self.child.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(END_WITHIN, self.child.wait()).await.is_err() {
            tracing::warn!("the app did not end within {} s of SIGTERM and was killed", END_WITHIN.as_secs());
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        // Gone already is what was wanted.
        let _ = if self.own_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!([0, 7 << 8, 9, 15].map(|raw| exit_code(ExitStatus::from_raw(raw))), [0, 7, 137, 143]);
    }

    #[tokio::test]
    async fn an_app_that_will_not_end_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("trap '' TERM; sleep 60 & echo $! > {}; wait", file.display());
        let app = App { child: Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap(), own_group: true };
        while std::fs::read_to_string(&file).unwrap_or_default().trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let began = std::time::Instant::now();
        app.stop(false).await;
        assert!(began.elapsed() < END_WITHIN + Duration::from_secs(3));
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            // A killed orphan is a zombie until init reaps it.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone, "a child of the app outlived it");
    }
}
