/// Why a statement or a transaction failed. Displays in one line and never holds a parameter's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// `Tx::one` found no row.
    #[error("no such row")]
    NoRow,
    /// `constraint` is the index's name, the same on both engines: `users_by_email`, or `<table>_pkey` and `<table>_<column>_key`
    /// for those declared in the table.
    #[error("unique constraint violated: {constraint}")]
    Unique { constraint: String },
    /// `column` counts from 1 in the order of the SELECT list.
    #[error("column {column} is not {expected}")]
    Decode { column: usize, expected: &'static str },
    /// Connection lost, disk full, too busy: the same request may work later.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    #[error("the database is closed")]
    Closed,
    /// The tables do not fit this program.
    #[error("{0}")]
    Schema(String),
    #[error("database error: {0}")]
    Other(String),
}

impl DbError {
    /// Whether this is a violation of the unique index `name`. SQLite does not say which of several partial indexes over
    /// the same columns was hit: it then answers true for each of them.
    pub fn is_unique(&self, name: &str) -> bool {
        matches!(self, Self::Unique { constraint } if constraint.split(", ").any(|one| one == name))
    }
}

/// The first line of what a driver or the operating system said.
pub(crate) fn one_line(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}
