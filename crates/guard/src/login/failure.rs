/// A sign-in that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProblem {
    pub reason: LoginFailure,
    /// The `Set-Cookie` value that ends the attempt, if it was one of this browser's.
    pub clear_cookie: Option<String>,
    /// Where the attempt was to lead, so that another one can be offered.
    pub return_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The callback's query is not one.
    Malformed(&'static str),
    /// This browser began no such sign-in, or has ended it already.
    NotBegunHere,
    Expired,
    /// The server's `error` and `error_description`.
    Refused {
        error: String,
        description: Option<String>,
    },
}

impl LoginProblem {
    /// What to tell the person, as plain text.
    pub fn message(&self) -> String {
        match &self.reason {
            LoginFailure::Malformed(what) => format!("The sign-in came back in a form that cannot be used: {what}. Sign in again."),
            LoginFailure::NotBegunHere => "This sign-in was not begun in this browser, or is over already. Sign in again.".to_owned(),
            LoginFailure::Expired => "The sign-in took longer than ten minutes. Sign in again.".to_owned(),
            LoginFailure::Refused { error, description: None } => format!("The sign-in was not completed ({error})."),
            LoginFailure::Refused { error, description: Some(description) } => {
                format!("The sign-in was not completed: {description} ({error})")
            }
        }
    }
}

impl std::fmt::Display for LoginProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for LoginProblem {}

impl From<LoginFailure> for LoginProblem {
    fn from(reason: LoginFailure) -> Self {
        Self { reason, clear_cookie: None, return_to: None }
    }
}
