//! Threads for work that keeps a core busy for milliseconds. They give way to everything else, so that a crowd of people signing in
//! does not slow down those who are signed in.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Work = Box<dyn FnOnce() + Send>;

/// Started with the first piece of work; they end when this is dropped.
pub struct LowPriorityThreads {
    count: usize,
    sender: OnceLock<Sender<Work>>,
}

impl LowPriorityThreads {
    pub fn new(count: usize) -> Self {
        Self { count: count.max(1), sender: OnceLock::new() }
    }

    /// What `work` makes, on the next free thread. It runs to its end even if the caller hangs up; `None` if it panicked. The caller
    /// bounds how much waits.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, made) = tokio::sync::oneshot::channel();
        let job = Box::new(move || {
            // The caller may have gone; nothing is lost by that.
            let _ = done.send(work());
        });
        self.sender.get_or_init(|| start(self.count)).send(job).ok()?;
        made.await.ok()
    }
}

fn start(count: usize) -> Sender<Work> {
    let (sender, receiver) = channel::<Work>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..count {
        let receiver = receiver.clone();
        // A machine that gives no thread gives none to anything else either: the work stays with the others.
        let _ = std::thread::Builder::new().name("hashing".to_owned()).spawn(move || serve(&receiver));
    }
    sender
}

fn serve(receiver: &Mutex<Receiver<Work>>) {
    // On Linux this is the calling thread alone. Without it everything works, only less politely.
    let _ = rustix::process::setpriority_process(None, 10);
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // A panic ends this piece of work; its caller sees that no answer comes.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}
