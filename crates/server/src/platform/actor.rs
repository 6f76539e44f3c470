use serde::Serialize;

/// Who made a change. Goes into the event that is written with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Actor {
    /// The holder of an environment's API key.
    Api { id: String },
    /// A person at a hosted page, or a client acting on that person's session.
    User { id: String },
    /// Somebody of support who acts as the user `id` (RFC 8693 §4.1).
    Impersonator { id: String, email: String },
    /// An operator at the command line.
    Operator,
    /// The server itself: a job, or somebody not yet known.
    System,
}
