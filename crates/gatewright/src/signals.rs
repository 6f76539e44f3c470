use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Ctrl-C and SIGTERM, and perhaps the terminal going away.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// `hangup`: end with the terminal. A server that was started under nohup must not.
    pub fn listen(hangup: bool) -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be received: {error}; start again")));
        let hangup = hangup.then(|| on(SignalKind::hangup())).transpose()?;
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())?, hangup })
    }

    /// Waits for one; true for Ctrl-C.
    pub async fn next(&mut self) -> bool {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => false,
            () = hung_up => false,
        }
    }
}
