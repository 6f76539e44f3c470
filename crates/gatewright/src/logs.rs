use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// How lines look. All go to standard error; standard output is for answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people.
    Lines,
    /// One JSON object a line, unless a person is watching.
    Json,
}

/// Starts the log. `level` comes from `--log`, else from `GATEWRIGHT_LOG`.
pub fn start(style: Style, level: Option<&str>, default: &str) -> Result<(), Failure> {
    let from_environment = std::env::var("GATEWRIGHT_LOG").ok().filter(|level| !level.is_empty());
    let level = level.or(from_environment.as_deref()).unwrap_or(default);
    let filter = EnvFilter::builder().parse(level).map_err(|_| {
        Failure::usage(format!(
            "--log: {level:?} is not a level; use error, warn, info, debug or trace, or a filter such as info,gatewright_server=debug"
        ))
    })?;
    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let started = match style {
        Style::Json if !terminal => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
        _ => {
            let layer = tracing_subscriber::fmt::layer().compact().with_target(false).with_ansi(terminal);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
    };
    started.map_err(|error| Failure::new(format!("the log cannot start: {error}; this is a defect, report it")))
}
