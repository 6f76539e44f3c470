//! `cargo xtask bench timing`: whether the time of an answer tells who has an account (attack row 37). For each way in, addresses that have
//! one and addresses that have none are tried in turn; ends with 1 when the Mann-Whitney test tells them apart. On both
//! databases, if `GATEWRIGHT_TEST_PG` names a PostgreSQL.

#![expect(clippy::print_stdout, reason = "figures are printed")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gatewright_server::Config;
use gatewright_server::testkit::ranks::mann_whitney;
use gatewright_server::testkit::{Answer, Browser, On, TestApp};
use serde_json::json;

const PASSWORD: &str = "correct horse battery staple";
/// Below it the two are told apart.
const BUDGET: f64 = 0.01;
/// Accounts that are tried in turn, so that none is tried too often.
const ACCOUNTS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    SignIn,
    SignInAtThePage,
    SignUp,
    Reset,
    MagicCode,
    Code,
    CodeOverTheApi,
    PasskeyOptions,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::SignIn,
        Self::SignInAtThePage,
        Self::SignUp,
        Self::Reset,
        Self::MagicCode,
        Self::Code,
        Self::CodeOverTheApi,
        Self::PasskeyOptions,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SignIn => "password, over the API",
            Self::SignInAtThePage => "password, at the page",
            Self::SignUp => "sign-up",
            Self::Reset => "password reset",
            Self::MagicCode => "magic code, asking for one",
            Self::Code => "magic code, a wrong one",
            Self::CodeOverTheApi => "magic code, wrong, over the API",
            Self::PasskeyOptions => "passkey options, address typed",
        }
    }

    /// Tries at once: hashes share the cores, and answers that wait for their time share nothing.
    fn at_once(self) -> usize {
        match self {
            Self::PasskeyOptions => 1,
            Self::SignIn | Self::SignInAtThePage | Self::SignUp => 6,
            Self::Reset | Self::MagicCode | Self::Code | Self::CodeOverTheApi => 16,
        }
    }

    /// Whether a try gives the address an account or a mail, so that each needs a new one.
    fn is_once(self) -> bool {
        matches!(self, Self::SignUp | Self::MagicCode)
    }
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let quick = given.iter().any(|one| one == "--quick");
    let only = given.iter().position(|one| one == "--only").and_then(|at| given.get(at + 1));
    let tries = if quick { 200 } else { 2_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let mut engines = vec![On::Sqlite];
    if std::env::var_os("GATEWRIGHT_TEST_PG").is_some() {
        engines.push(On::Postgres);
    }
    let mut told_apart = 0;
    for on in engines {
        for way in Way::ALL {
            if only.is_none_or(|only| format!("{on:?}: {}", way.name()).contains(only.as_str())) {
                told_apart += u32::from(!runtime.block_on(is_silent(on, way, tries)));
            }
        }
    }
    if told_apart == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One way in. What looks told apart is tried once more: one in a hundred looks so by chance.
async fn is_silent(on: On, way: Way, tries: usize) -> bool {
    for _ in 0..2 {
        let (known, unknown) = measure(on, way, tries).await;
        let ranks = mann_whitney(&known, &unknown);
        println!(
            "{on:?}: {:<32} known {:>8.3} ms, unknown {:>8.3} ms (medians of {tries}), p = {:.4}  budget > {BUDGET}",
            way.name(),
            median(&known),
            median(&unknown),
            ranks.p
        );
        if ranks.p > BUDGET {
            return true;
        }
    }
    false
}

async fn measure(on: On, way: Way, tries: usize) -> (Vec<f64>, Vec<f64>) {
    // With the costs of production: the work that is to hide the difference.
    let app = TestApp::start_with(on, |config| {
        (config.passwords.argon2_memory_kib, config.passwords.argon2_passes) = (19_456, 2);
        config.answer_step = Config::default().answer_step;
    })
    .await;
    for number in 0..ACCOUNTS {
        app.user(&address(true, number), PASSWORD).await;
    }
    let (app, next) = (Arc::new(app), Arc::new(AtomicUsize::new(0)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..way.at_once() {
        let (app, next) = (app.clone(), next.clone());
        workers.spawn(async move {
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tries + tries / 20 {
                    return (known, unknown);
                }
                // Each begins as often as the other: what the first leaves warm helps the second.
                for has_account in if number % 2 == 0 { [true, false] } else { [false, true] } {
                    let email = address(has_account, if has_account || !way.is_once() { number % ACCOUNTS } else { number });
                    let took = one_try(&app, way, &email).await;
                    // The first twentieth warms up.
                    if number >= tries / 20 {
                        if has_account { known.push(took) } else { unknown.push(took) }
                    }
                }
            }
        });
    }
    workers.join_all().await.into_iter().fold((Vec::new(), Vec::new()), |(mut known, mut unknown), (more_known, more_unknown)| {
        known.extend(more_known);
        unknown.extend(more_unknown);
        (known, unknown)
    })
}

/// As long as each other, whatever the number.
fn address(has_account: bool, number: usize) -> String {
    format!("{}{number:06}@example.test", if has_account { "known" } else { "other" })
}

/// Milliseconds of the one request that could tell.
async fn one_try(app: &TestApp, way: Way, email: &str) -> f64 {
    if matches!(way, Way::SignIn | Way::CodeOverTheApi) {
        let body = if way == Way::SignIn {
            json!({"grant_type": "password", "email": email, "password": "not the password"})
        } else {
            json!({"grant_type": "urn:workos:oauth:grant-type:magic-auth:code", "email": email, "code": "000000"})
        };
        let began = Instant::now();
        let answer = app.authenticate(body).await;
        let took = milliseconds(began);
        assert_eq!(answer.status, 400, "{}", answer.text);
        return took;
    }
    let mut browser = app.browser();
    let hint = if way == Way::SignUp { "&screen_hint=sign-up" } else { "" };
    let authorize = format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri=http://localhost:8000/callback&provider=authkit{hint}",
        app.tenant.client_id
    );
    let first = browser.get(&authorize).await;
    let page = browser.follow(first).await;
    match way {
        Way::SignIn | Way::CodeOverTheApi => 0.0,
        Way::SignUp => timed(&mut browser, &page, "/sign-up", &[("email", email), ("password", PASSWORD)], 303).await,
        Way::Reset => {
            let path = format!("/forgot-password?request={}", hidden(&page, "request"));
            let page = browser.get(&path).await;
            timed(&mut browser, &page, "/forgot-password", &[("email", email)], 200).await
        }
        Way::SignInAtThePage | Way::MagicCode | Way::Code | Way::PasskeyOptions => {
            let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
            let page = browser.follow(next).await;
            if way == Way::SignInAtThePage {
                return timed(&mut browser, &page, "/sign-in/password", &[("password", "not the password")], 422).await;
            }
            if way == Way::PasskeyOptions {
                // A script asks for them, not a form.
                let fields = ["request", "csrf"].map(|name| (name, hidden(&page, name)));
                let began = Instant::now();
                let answer = browser.post("/sign-in/passkey/options", &fields).await;
                let took = milliseconds(began);
                assert_eq!(answer.status, 200, "{}", answer.text);
                return took;
            }
            if way == Way::MagicCode {
                return timed(&mut browser, &page, "/sign-in/code/send", &[], 303).await;
            }
            let sent = browser.submit(&page, "/sign-in/code/send", &[]).await;
            let page = browser.follow(sent).await;
            timed(&mut browser, &page, "/sign-in/code", &[("code", "000000")], 422).await
        }
    }
}

async fn timed(browser: &mut Browser<'_>, page: &Answer, action: &str, fields: &[(&str, &str)], expected: u16) -> f64 {
    let began = Instant::now();
    let answer = browser.submit(page, action, fields).await;
    let took = milliseconds(began);
    assert_eq!(answer.status, expected, "{action}: {}", answer.text);
    took
}

/// The value of a hidden field.
fn hidden<'a>(page: &'a Answer, name: &str) -> &'a str {
    let start = format!("name=\"{name}\" value=\"");
    page.text.split_once(&start).and_then(|(_, rest)| rest.split_once('"')).map(|(found, _)| found).expect("the page has it")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
