//! The checks of a drill, what was measured in one, and what it is worth.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// What is rehearsed, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Name {
    SignOut,
    SessionRevocation,
    UserDeletion,
    MembershipDeactivation,
    ApiKeyRevocation,
    RefreshTokenReuse,
    TokenExpiry,
    CookieDeletion,
    SigningKeyRotation,
}

impl Name {
    pub const ALL: [Self; 9] = [
        Self::SignOut,
        Self::SessionRevocation,
        Self::UserDeletion,
        Self::MembershipDeactivation,
        Self::ApiKeyRevocation,
        Self::RefreshTokenReuse,
        Self::TokenExpiry,
        Self::CookieDeletion,
        Self::SigningKeyRotation,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::SignOut => "sign-out",
            Self::SessionRevocation => "session revocation",
            Self::UserDeletion => "user deletion",
            Self::MembershipDeactivation => "membership deactivation",
            Self::ApiKeyRevocation => "API key revocation",
            Self::RefreshTokenReuse => "refresh-token theft (reuse)",
            Self::TokenExpiry => "token expiry",
            Self::CookieDeletion => "cookie deletion",
            Self::SigningKeyRotation => "signing-key rotation",
        }
    }

    /// What is done, and from which moment the time counts.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::SignOut => "the person signs out; the time counts from the request that does it",
            Self::SessionRevocation => "the session is revoked through the API; the time counts from that call",
            Self::UserDeletion => "the user is deleted through the API; the time counts from that call",
            Self::MembershipDeactivation => "the membership of the session's organization is deactivated; the time counts from that call",
            Self::ApiKeyRevocation => "an organization's API key is deleted; the time counts from that call",
            Self::RefreshTokenReuse => "a refresh token that was exchanged twice over is presented again; the time counts from that call",
            Self::TokenExpiry => "an access token is used until it is refused; the time counts from its exp",
            Self::CookieDeletion => "the browser forgets its cookie; the time is that of the first request without it",
            Self::SigningKeyRotation => "the signing key is turned while tokens of before and after are used; none may be refused",
        }
    }
}

/// What was seen at one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Measure {
    /// Refused from then on.
    Denied {
        /// When the first refusal was there after which nothing was let in any more.
        after_ms: f64,
        /// The latest request that was let in. Between the two the end was felt.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_let_in_ms: Option<f64>,
        status: u16,
        asked: u32,
        /// How often it was refused and let in again before: some workers heard before others.
        wavered: u32,
        /// The access token had expired by then: it was the expiry that was felt, not the end.
        by_expiry: bool,
    },
    /// Let in until the drill stopped asking.
    StillLetIn { after_ms: f64, asked: u32 },
    /// Refused, and let in again at the end of the drill.
    LetInAgain { after_ms: f64 },
    /// What should only ever be refused was accepted.
    Accepted { what: String },
    /// Nothing could be learned: the place broke, or stopped answering.
    NoAnswer { why: String },
    /// Let in throughout, as it should be.
    Held { asked: u32 },
    /// Refused although nothing had ended.
    Refused { why: String, asked: u32 },
    /// Not looked at, and why.
    NotMeasured { why: String },
}

/// A measure at the app, by the credential that was shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtApp {
    pub credential: &'static str,
    #[serde(flatten)]
    pub measure: Measure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    NotRun,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotRun => "not run",
        }
    }
}

/// A rehearsed check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: Name,
    pub title: &'static str,
    pub verdict: Verdict,
    /// Why it failed or was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub bound_ms: f64,
    pub server: Measure,
    pub app: Vec<AtApp>,
    /// What else was seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Check {
    /// Judges what was measured.
    pub fn new(name: Name, bound: Duration, server: Measure, app: Vec<AtApp>, notes: Vec<String>) -> Self {
        let at_app = app.iter().map(|at| (format!("the app ({})", at.credential), &at.measure));
        let places: Vec<(String, &Measure)> = std::iter::once(("the server".to_owned(), &server)).chain(at_app).collect();
        let wrong: Vec<String> = places.iter().filter_map(|(place, measure)| problem(place, measure, bound)).collect();
        let is_measured = |measure: &Measure| !matches!(measure, Measure::NotMeasured { .. });
        let (verdict, reason) = if !wrong.is_empty() {
            (Verdict::Failed, Some(wrong.join("; ")))
        } else if places.iter().any(|(_, measure)| is_measured(measure)) {
            (Verdict::Passed, None)
        } else {
            let why = places.iter().find_map(|(_, measure)| match measure {
                Measure::NotMeasured { why } => Some(why.clone()),
                _ => None,
            });
            (Verdict::NotRun, why)
        };
        Self { name, title: name.title(), verdict, reason, bound_ms: millis(bound), server, app, notes }
    }

    pub fn not_run(name: Name, bound: Duration, why: impl Into<String>) -> Self {
        Self::new(name, bound, Measure::NotMeasured { why: why.into() }, Vec::new(), Vec::new())
    }

    /// Begun and not brought to its end: that is a failure, or a broken server would pass.
    pub fn broken(name: Name, bound: Duration, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, reason: Some(why.into()), ..Self::not_run(name, bound, "it broke off") }
    }
}

fn problem(place: &str, measure: &Measure, bound: Duration) -> Option<String> {
    let limit = show_millis(millis(bound));
    match measure {
        Measure::Denied { after_ms, by_expiry, .. } => (*after_ms > millis(bound)).then(|| {
            let how = if *by_expiry { ", when its access token had expired" } else { "" };
            format!("{place} refused after {}{how}; the bound is {limit}", show_millis(*after_ms))
        }),
        Measure::StillLetIn { after_ms, .. } => Some(format!("{place} still let in after {}", show_millis(*after_ms))),
        Measure::LetInAgain { after_ms } => Some(format!("{place} refused after {} and let in again later", show_millis(*after_ms))),
        Measure::Accepted { what } => Some(format!("{place} accepted {what}")),
        Measure::NoAnswer { why } => Some(format!("{place}: {why}")),
        Measure::Refused { why, .. } => Some(format!("{place} refused what nothing had ended: {why}")),
        Measure::Held { .. } | Measure::NotMeasured { .. } => None,
    }
}

/// Milliseconds with a tenth: finer than that is noise.
pub fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e4).round() / 10.0
}

/// A time as people read it.
pub fn show_millis(millis: f64) -> String {
    match millis.abs() {
        below if below < 10.0 => format!("{millis:.1} ms"),
        below if below < 1_000.0 => format!("{millis:.0} ms"),
        below if below < 60_000.0 => format!("{:.2} s", millis / 1e3),
        _ => format!("{:.0} s", millis / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn denied(after_ms: f64) -> Measure {
        Measure::Denied { after_ms, last_let_in_ms: None, status: 401, asked: 9, wavered: 0, by_expiry: false }
    }

    fn judged(server: Measure, app: &[Measure]) -> (Verdict, Option<String>) {
        let app = app.iter().map(|measure| AtApp { credential: "bearer", measure: measure.clone() }).collect();
        let check = Check::new(Name::SessionRevocation, Duration::from_secs(1), server, app, Vec::new());
        (check.verdict, check.reason)
    }

    #[test]
    fn only_what_was_refused_within_the_bound_everywhere_passes() {
        let none = Measure::NotMeasured { why: "no app is given".into() };
        let late = Measure::Denied { after_ms: 300_000.0, last_let_in_ms: None, status: 401, asked: 9, wavered: 0, by_expiry: true };
        let broken = Measure::NoAnswer { why: "it answered 500".into() };
        let passed = (Verdict::Passed, None);
        let failed = |reason: &str| (Verdict::Failed, Some(reason.to_owned()));
        for (server, app, expected) in [
            (denied(4.0), vec![denied(900.0)], passed.clone()),
            (denied(1_000.0), vec![], passed.clone()),
            (denied(4.0), vec![none.clone()], passed.clone()),
            (none.clone(), vec![denied(4.0)], passed.clone()),
            (Measure::Held { asked: 9 }, vec![Measure::Held { asked: 9 }], passed),
            (none.clone(), vec![none.clone()], (Verdict::NotRun, Some("no app is given".into()))),
            (denied(4.0), vec![denied(1_001.0)], failed("the app (bearer) refused after 1.00 s; the bound is 1.00 s")),
            (
                denied(4.0),
                vec![denied(4.0), late],
                failed("the app (bearer) refused after 300 s, when its access token had expired; the bound is 1.00 s"),
            ),
            (denied(4.0), vec![Measure::StillLetIn { after_ms: 5_000.0, asked: 3 }], failed("the app (bearer) still let in after 5.00 s")),
            (
                denied(4.0),
                vec![Measure::LetInAgain { after_ms: 50.0 }],
                failed("the app (bearer) refused after 50 ms and let in again later"),
            ),
            (Measure::Accepted { what: "a stolen token".into() }, vec![], failed("the server accepted a stolen token")),
            (denied(4.0), vec![broken], failed("the app (bearer): it answered 500")),
            (Measure::Refused { why: "401".into(), asked: 3 }, vec![], failed("the server refused what nothing had ended: 401")),
        ] {
            assert_eq!(judged(server.clone(), &app), expected, "{server:?} {app:?}");
        }
    }

    #[test]
    fn a_check_that_broke_off_has_failed_and_one_that_never_began_has_not() {
        let second = Duration::from_secs(1);
        let broken = Check::broken(Name::SignOut, second, "POST /x answered 500");
        assert_eq!((broken.verdict, broken.reason.as_deref()), (Verdict::Failed, Some("POST /x answered 500")));
        assert_eq!(Check::not_run(Name::SignOut, second, "no app").verdict, Verdict::NotRun);
    }

    #[test]
    fn times_are_shown_in_one_unit() {
        for (millis, shown) in [
            (0.4, "0.4 ms"),
            (9.94, "9.9 ms"),
            (12.4, "12 ms"),
            (999.0, "999 ms"),
            (1_234.0, "1.23 s"),
            (300_100.0, "300 s"),
            (-40.0, "-40 ms"),
        ] {
            assert_eq!(show_millis(millis), shown);
        }
    }
}
