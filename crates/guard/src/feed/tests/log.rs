use super::*;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

/// Keeps every line of every test in this process; a test finds its own by its server's address.
struct Keeps;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Keeps {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gatewright_guard")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        LINES.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

pub(crate) fn keep_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Keeps).unwrap());
}

fn warnings(about: &str) -> Vec<String> {
    lines(Level::WARN, about)
}

pub(crate) fn lines(level: Level, about: &str) -> Vec<String> {
    LINES.lock().unwrap().iter().filter(|(own, line)| *own == level && line.contains(about)).map(|(_, line)| line.clone()).collect()
}

#[test]
fn keys_that_cannot_be_fetched_are_one_warning_until_they_can() {
    keep_lines();
    let world = World::new();
    let address = world.server.url();
    let bearer = format!("Bearer {}", world.token(&world.key, 3600));
    for round in 1..=2 {
        world.server.on_path(JWKS, |_| Does::Answer(500, String::new()));
        for _ in 0..5 {
            let failures = world.guard.stats().key_fetch_failures;
            world.seconds_pass(900);
            drop(world.ask(("authorization", &bearer)));
            world.wait_for("a failure", |stats| stats.key_fetch_failures > failures);
        }
        let lines = warnings(&address);
        assert_eq!(lines.len(), round, "{lines:?}");
        assert!(
            lines[0].contains("issuer `sessions`") && lines[0].contains("status 500") && lines[0].contains("check that the server runs"),
            "{lines:?}"
        );
        let fetches = world.guard.stats().key_fetches;
        world.publish(&[&world.key]);
        world.seconds_pass(30);
        drop(world.ask(("authorization", &bearer)));
        world.wait_for("a fetch", |stats| stats.key_fetches > fetches);
    }
}

#[test]
fn no_line_tells_a_secret() {
    keep_lines();
    let world = World::new();
    let cookie = world.cookie(world.token(&world.key, -60), "refresh_token_that_is_secret");
    let sealed = cookie.split_once('=').unwrap().1;
    for body in [r#"{"error":"invalid_client"}"#, "<html>", r#"{"error":"invalid_grant"}"#] {
        world.server.on_path(AUTHENTICATE, move |_| Does::Answer(400, body.to_owned()));
        drop(world.ask_with_cookie(&cookie));
        world.seconds_pass(31);
    }
    world.server.on_path(VALIDATIONS, |_| Does::Answer(401, String::new()));
    drop(world.ask(("x-api-key", "sk_presented_key")));
    world.server.stop();
    drop(world.ask_with_cookie(&cookie));
    assert_eq!(warnings(&world.server.url()).len(), 1, "the server is away");
    let told: String = LINES.lock().unwrap().iter().map(|(_, line)| line.as_str()).collect();
    for secret in ["refresh_token_that_is_secret", sealed, "sk_ours", "sk_presented_key", "BwcHBwcH"] {
        assert!(!told.contains(secret), "{secret}");
    }
    let debug = format!("{:?} {:?}", world.guard, world.check(("cookie", &cookie)));
    assert!(!debug.contains("sk_ours") && !debug.contains(sealed), "{debug}");

    let world = World::new();
    world.renew_for(300);
    let cookie = world.expired_cookie();
    let resolved = world.ask_with_cookie(&cookie);
    let again = world.check(("cookie", &cookie));
    let (query, attempt) = super::sign_in::begin(&world);
    let body = answer(world.token(&world.key, 300), "refresh_0");
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let signed_in = super::sign_in::exchange(&world, &query, &attempt);
    let set = resolved.cookies.iter().chain(&signed_in.cookies).map(|cookie| cookie.split([';', '=']).nth(1).unwrap());
    let debug = format!("{resolved:?} {again:?} {signed_in:?}");
    assert!(set.clone().count() >= 3 && set.filter(|value| !value.is_empty()).all(|value| !debug.contains(value)), "{debug}");
}
