use std::process::ExitCode;

use gatewright_db::DbError;
use gatewright_server::config::ConfigError;
use gatewright_server::operator::OperatorError;

/// Why the command ends: one line of what, why and what to do, and the exit status for scripts.
#[derive(Debug)]
pub struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// The work could not be done: status 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 1 }
    }

    /// The arguments or the configuration are wrong: status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 2 }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    #[expect(clippy::print_stderr, reason = "this is the command's error line")]
    pub fn report(&self) -> ExitCode {
        // Whatever a driver or the system said, scripts read one line.
        let line: Vec<&str> = self.message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        eprintln!("error: {}", line.join(" "));
        ExitCode::from(self.status)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Db(error) => error.into(),
            refused @ OperatorError::Refused { .. } => Self::new(refused.to_string()),
        }
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        let remedy = match &error {
            DbError::Unavailable(_) => "; check that the database is running and database.url is right",
            DbError::Schema(_) => "",
            _ => "; gatewright doctor looks closer",
        };
        Self::new(format!("{error}{remedy}"))
    }
}
