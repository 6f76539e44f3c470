use std::collections::BTreeSet;

use super::feed::{FEED, Feed, revocation};
use super::*;
use crate::feed::FeedState;

/// A world whose feed is live.
fn live() -> (World, Feed) {
    live_with(|_| {})
}

fn live_with(change: impl FnOnce(&mut Value)) -> (World, Feed) {
    let world = World::with(|config, _| change(config));
    let feed = Feed::on(&world.server);
    world.guard.warm();
    world.wait_for("the feed", |stats| stats.feed_live == 1);
    world.wait_for("keys", |stats| stats.key_fetches == 2);
    (world, feed)
}

fn state(world: &World) -> FeedState {
    world.guard.health().revocations
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a bearer token of `user_1` in `org_1` and `session_1` is refused, though it has been let in before.
fn is_refused_within_a_second(world: &World, feed: &Feed, item: &Value) -> bool {
    let now = world.guard.clock().now().seconds();
    let claims = json!({
        "iss": format!("{}/user_management/client_1", world.server.url()), "sub": "user_1", "sid": "session_1", "org_id": "org_1",
        "client_id": "client_1", "iat": now, "exp": now + 300, "jti": "1",
    });
    let bearer = format!("Bearer {}", world.key.sign_jwt(&claims).unwrap());
    let header = ("authorization", bearer.as_str());
    assert!(world.ask(header).outcome.is_ok());
    let heard = world.guard.stats().revocations_heard;
    feed.publish(item.clone());
    let began = Instant::now();
    while world.guard.stats().revocations_heard == heard && began.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    matches!(world.check(header), Check::Refused(Refusal::Revoked))
}

#[test]
fn row_23_whatever_is_revoked_is_refused_within_a_second_though_its_token_lives() {
    let member = |user: &str, organization: &str| {
        let mut item = revocation("organization_membership", "om_1");
        (item["user_id"], item["organization_id"]) = (user.into(), organization.into());
        item
    };
    for (item, is_refused) in [
        (revocation("session", "session_1"), true),
        (revocation("session", "session_2"), false),
        (revocation("user", "user_1"), true),
        (revocation("user", "user_2"), false),
        (revocation("client", "client_1"), true),
        (revocation("client", "client_2"), false),
        (revocation("signing_key", "key_1"), true),
        (revocation("signing_key", "key_2"), false),
        (member("user_1", "org_1"), true),
        (member("user_1", "org_2"), false),
        (revocation("planet", "earth"), false),
    ] {
        let (world, feed) = live();
        assert_eq!(is_refused_within_a_second(&world, &feed, &item), is_refused, "{item}");
    }
}

#[test]
fn a_revoked_session_is_refused_by_cookie_too_and_never_renewed() {
    let (world, feed) = live();
    world.renew_for(300);
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    feed.publish(revocation("session", "session_1"));
    wait_until("it is refused", || matches!(world.check(("cookie", &cookie)), Check::Refused(Refusal::Revoked)));
    assert_eq!(world.server.calls(AUTHENTICATE), 0);
}

#[test]
fn a_cookie_whose_token_alone_was_revoked_is_for_the_server_to_renew() {
    let (world, feed) = live();
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    feed.publish(revocation("user", "user_1"));
    world.wait_for("it is heard", |stats| stats.revocations == 1);
    // The user is gone: so says the server.
    world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, json!({ "error": "invalid_grant" }).to_string()));
    let ended = world.ask_with_cookie(&cookie);
    assert!(ended.outcome == Err(Refusal::SessionEnded) && clears_the_cookie(&ended), "{ended:?}");
    // Of another the key was taken back: the session goes on with a token of another one.
    let (world, feed) = live();
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    let next = Arc::new(new_key("key_2"));
    world.publish(&[&next]);
    let (base, clock) = (world.server.url(), Arc::clone(&world.clock));
    world.server.on_path(AUTHENTICATE, move |_| ok(&answer(token_of(&base, &clock, &next, 300, "user_1", "session_1"), "refresh_1")));
    feed.publish(revocation("signing_key", "key_1"));
    world.wait_for("the keys are fetched anew", |stats| stats.key_fetches >= 3);
    let renewed = world.ask_with_cookie(&cookie);
    assert_eq!(renewed.outcome.unwrap().key_id.as_deref(), Some("key_2"));
}

#[test]
fn what_a_new_token_of_a_revoked_user_says_is_not_believed_either() {
    let (world, feed) = live();
    world.renew_for(300);
    feed.publish(revocation("user", "user_1"));
    world.wait_for("it is heard", |stats| stats.revocations == 1);
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    // Issued in the very moment of the revocation, as all tokens of this clock: nobody can tell which came first, twice.
    assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::Revoked));
    assert_eq!(world.server.calls(AUTHENTICATE), 2);
    world.seconds_pass(6);
    assert!(world.ask_with_cookie(&world.cookie(world.token(&world.key, -1), "refresh_2")).outcome.is_ok(), "issued later");
}

#[test]
fn a_member_who_is_back_within_the_second_is_let_in_with_the_next_token() {
    let (world, feed) = live();
    feed.publish(revocation("user", "user_1"));
    world.wait_for("it is heard", |stats| stats.revocations == 1);
    let (base, clock, key) = (world.server.url(), Arc::clone(&world.clock), Arc::clone(&world.key));
    let asked = AtomicUsize::new(0);
    world.server.on_path(AUTHENTICATE, move |request| {
        let n = asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.json()["refresh_token"], format!("refresh_{n}"), "a refresh token is used once");
        // The server's clock goes on.
        let now = gatewright_base::Clock::now(&*clock).seconds() + i64::try_from(n).unwrap();
        let claims =
            json!({ "iss": format!("{base}/user_management/client_1"), "sub": "user_1", "sid": "session_1", "iat": now, "exp": now + 300 });
        ok(&answer(key.sign_jwt(&claims).unwrap(), &format!("refresh_{}", n + 1)))
    });
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    let renewed = world.ask_with_cookie(&cookie);
    assert!(renewed.outcome.is_ok(), "{renewed:?}");
    assert!(matches!(world.check(("cookie", &new_cookie(&renewed))), Check::Allowed(_)));
    assert_eq!(world.server.calls(AUTHENTICATE), 2);
}

#[test]
fn a_revoked_api_key_is_refused_though_it_was_confirmed_a_moment_ago() {
    for (kind, subject) in [("api_key", "api_key_1"), ("user", "user_1")] {
        let (world, feed) = live();
        world.server.on_path(VALIDATIONS, |_| {
            ok(&json!({ "api_key": { "id": "api_key_1", "owner": { "type": "user", "id": "user_1", "organization_id": "org_1" }, "expires_at": null } }))
        });
        assert!(world.ask(("x-api-key", "sk_1")).outcome.is_ok());
        world.server.on_path(VALIDATIONS, |_| ok(&json!({ "api_key": null })));
        assert!(world.ask(("x-api-key", "sk_1")).outcome.is_ok(), "kept for seconds");
        feed.publish(revocation(kind, subject));
        wait_until("it is refused", || world.ask(("x-api-key", "sk_1")).outcome.is_err());
    }
}

#[test]
fn the_feed_is_read_however_its_octets_are_cut() {
    for octets in [1, 3, 7, 64] {
        let world = World::new();
        let feed = Feed::on(&world.server);
        feed.cut(octets);
        for n in 0..10 {
            feed.publish(revocation("session", &format!("session_of_others_{n}")));
        }
        world.guard.warm();
        world.wait_for("live", |stats| stats.feed_live == 1);
        // All that was published before is in force by the time it says so.
        assert_eq!(world.guard.revocations().len(), 10);
        assert!(is_refused_within_a_second(&world, &feed, &revocation("session", "session_1")), "{octets}");
    }
}

#[test]
fn garbage_is_never_taken_for_word() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let endless_event = format!("{head}event: revocation\n{}", "data: 0123456789012345678901234567890123456789\n".repeat(3_000));
    let wrong = revocation("session", "").to_string();
    let list = |metadata: &str| {
        let body = format!("{{\"data\":[],\"list_metadata\":{metadata}}}");
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    for (n, octets) in [
        String::new(),
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        head.to_owned(),
        format!("{head}{}", "x".repeat(100_000)),
        endless_event,
        format!("{head}event: revocation\ndata: {{\"kind\":\n\nevent: ready\ndata: {{}}\n\n"),
        format!("{head}event: revocation\ndata: {wrong}\n\nevent: ready\ndata: {{}}\n\n"),
        format!("{head}: comments\n\nevent: beat\ndata: {{}}\n\n"),
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"data\":{}}".to_owned(),
        // There is more, and no way to it.
        list("{\"has_more\":true}"),
        list("{\"has_more\":true,\"after\":\"a b\"}"),
        list("{\"has_more\":true,\"after\":\"7\"}"),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::new();
        let shown: String = octets.chars().take(150).collect();
        world.server.on_path(FEED, move |_| Does::Raw(octets.clone().into_bytes()));
        world.guard.warm();
        world.wait_for(&shown, |stats| stats.feed_failures >= 2);
        assert_eq!(state(&world), FeedState::Stale, "{n}: {shown}");
        // What is sound before it counts all the same, and afterwards everything does.
        let feed = Feed::on(&world.server);
        world.wait_for("live", |stats| stats.feed_live == 1);
        assert!(is_refused_within_a_second(&world, &feed, &revocation("session", "session_1")), "{n}: {shown}");
    }
}

#[test]
fn a_broken_connection_goes_on_where_it_ended_and_after_long_silence_from_the_beginning() {
    let (world, feed) = live();
    feed.publish(revocation("session", "session_a"));
    feed.publish(revocation("session", "session_b"));
    world.wait_for("both", |stats| stats.revocations_heard == 2);
    feed.end_connections();
    feed.publish(revocation("session", "session_c"));
    world.wait_for("what came meanwhile", |stats| stats.revocations_heard == 3);
    let queries = || world.server.asked().into_iter().filter(|asked| asked.path == FEED).map(|asked| asked.query).collect::<Vec<_>>();
    assert_eq!(queries(), ["", "after=2"]);
    assert_eq!(state(&world), FeedState::Live);

    world.server.on_path(FEED, |_| Does::Answer(500, String::new()));
    feed.end_connections();
    wait_until("a failure", || queries().len() > 2);
    world.seconds_pass(11);
    assert_eq!(state(&world), FeedState::Stale);
    let again = Feed::on(&world.server);
    wait_until("live", || state(&world) == FeedState::Live);
    assert_eq!((again.connections(), queries().last().map(String::as_str)), (1, Some("")));
    assert_eq!(world.guard.revocations().len(), 3, "what was heard of stays in force");
}

#[test]
fn a_cursor_that_the_server_has_lost_is_given_up() {
    let (world, feed) = live();
    feed.publish(revocation("session", "session_a"));
    world.wait_for("one", |stats| stats.revocations_heard == 1);
    let served = feed.clone();
    let next = Arc::new(std::sync::OnceLock::new());
    let kept = Arc::clone(&next);
    world.server.on_path(FEED, move |asked| {
        if asked.query.is_empty() {
            kept.set(()).unwrap();
            served.answer_to(asked)
        } else {
            Does::Answer(422, r#"{"code":"invalid_cursor"}"#.to_owned())
        }
    });
    feed.end_connections();
    wait_until("everything is asked for", || next.get().is_some());
    world.wait_for("live", |stats| stats.feed_live == 1 && stats.revocations_heard == 2);
}

#[test]
fn where_a_stream_stays_silent_the_guard_polls() {
    polls_when(|feed| feed.mute(true));
}

#[test]
fn comments_on_a_stream_are_no_word() {
    polls_when(Feed::chatter);
}

fn polls_when(goes_silent: fn(&Feed)) {
    let (world, feed) = live_with(|config| config["feed_stale_after"] = 5.into());
    let before = world.server.calls(FEED);
    goes_silent(&feed);
    wait_until("polls", || {
        world.server.asked().iter().any(|asked| asked.path == FEED && asked.accept.as_deref() == Some("application/json"))
    });
    assert!(world.server.calls(FEED) > before);
    assert!(is_refused_within_a_second(&world, &feed, &revocation("session", "session_1")));
    // Asks that the server may hold back, and that it is never asked all the time where it does not.
    let calls = world.server.calls(FEED);
    std::thread::sleep(Duration::from_secs(1));
    let calls = world.server.calls(FEED) - calls;
    assert!((2..=6).contains(&calls), "{calls}");
    assert!(world.server.asked().iter().any(|asked| asked.query == "after=0&wait=2" || asked.query == "after=1&wait=2"));
}

#[test]
fn a_server_that_answers_with_a_list_is_polled() {
    let world = World::new();
    let feed = Feed::on(&world.server);
    let served = feed.clone();
    world.server.on_path(FEED, move |asked| served.answer_to(&Asked { accept: None, ..asked.clone() }));
    world.guard.warm();
    world.wait_for("live", |stats| stats.feed_live == 1);
    assert!(is_refused_within_a_second(&world, &feed, &revocation("session", "session_1")));
    assert_eq!(feed.connections(), 0);
}

#[test]
fn a_guard_whose_server_is_away_says_so_and_lets_valid_tokens_in() {
    super::log::keep_lines();
    let world = World::with(|config, _| config["feed_stale_after"] = 7.into());
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    world.server.on_path(FEED, |_| Does::Answer(502, String::new()));
    assert!(world.ask(("authorization", &bearer)).outcome.is_ok());
    let told = || super::log::lines(tracing::Level::WARN, "no word of revocations for 8 s: the server answers status 502");
    let before = told().len();
    assert!(matches!(world.check(("authorization", &bearer)), Check::Allowed(_)));
    world.wait_for("a failure", |stats| stats.feed_failures > 1);
    let health = world.guard.health();
    assert_eq!((health.revocations, health.age, health.reason.as_deref()), (FeedState::Stale, None, Some("the server answers status 502")));
    world.seconds_pass(8);
    wait_until("a line", || told().len() == before + 1);
    world.wait_for("more failures", |stats| stats.feed_failures > 4);
    assert_eq!(told().len(), before + 1, "once");
    assert!(matches!(world.check(("authorization", &bearer)), Check::Allowed(_)));
    let _feed = Feed::on(&world.server);
    world.wait_for("live", |stats| stats.feed_live == 1);
    let health = world.guard.health();
    assert_eq!((health.revocations, health.age, health.reason), (FeedState::Live, Some(Duration::ZERO), None));
}

#[test]
fn without_an_api_key_or_a_feed_it_is_off_and_a_refused_key_is_stale() {
    let world = World::with(|config, _| drop(config.as_object_mut().unwrap().remove("api_key")));
    world.guard.warm();
    world.wait_for("keys", |stats| stats.key_fetches == 2);
    let health = world.guard.health();
    assert_eq!((health.revocations, health.reason.as_deref()), (FeedState::Off, Some("no API key is configured")));
    assert_eq!(world.server.calls(FEED), 0);

    for (status, expected, reason) in [
        (404, FeedState::Off, "the server publishes none (status 404)"),
        (501, FeedState::Off, "the server publishes none (status 501)"),
        (401, FeedState::Stale, "the server refuses our API key"),
        (403, FeedState::Stale, "the server refuses our API key"),
    ] {
        let world = World::new();
        world.server.on_path(FEED, move |_| Does::Answer(status, String::new()));
        world.guard.warm();
        world.wait_for("an answer", |stats| stats.feed_failures == 1);
        wait_until("it is told", || world.guard.health().reason.as_deref() == Some(reason));
        assert_eq!(state(&world), expected, "{status}");
        assert_eq!(world.server.asked().iter().find(|asked| asked.path == FEED).unwrap().authorization.as_deref(), Some("Bearer sk_ours"));
    }
}

#[test]
fn a_feed_that_is_missing_for_a_moment_is_soon_asked_for_again() {
    let (world, feed) = live();
    // As a proxy answers while the server behind it is started anew.
    world.server.on_path(FEED, |_| Does::Answer(404, String::new()));
    feed.end_connections();
    world.wait_for("more than one try", |stats| stats.feed_failures >= 3);
    world.seconds_pass(11);
    assert_eq!(state(&world), FeedState::Stale, "it had a feed, and may have missed something");
    let again = Feed::on(&world.server);
    wait_until("it listens again", || again.connections() == 1 && state(&world) == FeedState::Live);
}

#[test]
fn while_stale_the_server_is_asked_where_it_is_configured_so() {
    let (world, feed) = live_with(|config| config["when_stale"] = "check".into());
    let sessions = json!({ "object": "list", "data": [{ "id": "session_1", "status": "active" }], "list_metadata": {} });
    world.server.on_path(SESSIONS, move |_| ok(&sessions));
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let header = ("authorization", bearer.as_str());
    assert!(world.ask(header).outcome.is_ok());
    assert_eq!(world.server.calls(SESSIONS), 0);
    world.server.on_path(FEED, |_| Does::Answer(500, String::new()));
    feed.end_connections();
    world.wait_for("a failure", |stats| stats.feed_failures > 0);
    world.seconds_pass(11);
    for asked in 1..=3 {
        assert!(world.ask(header).outcome.is_ok());
        assert_eq!(world.server.calls(SESSIONS), asked);
    }
    world.server.on_path(SESSIONS, |_| ok(&json!({ "object": "list", "data": [], "list_metadata": {} })));
    assert_eq!(world.ask(header).outcome, Err(Refusal::SessionEnded), "nobody told us of it");
}

#[test]
fn whoever_waits_is_told_at_once_and_who_went_away_is_not() {
    let (world, feed) = live();
    let principal = |session: &str| {
        let bearer = format!("Bearer {}", world.token_of(&world.key, 300, "user_1", session));
        world.ask(("authorization", &bearer)).outcome.unwrap()
    };
    let (tell, told) = mpsc::channel();
    let wait_for = |session: &'static str| {
        let tell = tell.clone();
        world.guard.on_revoked(principal(session), move || tell.send(session).unwrap())
    };
    let kept = (wait_for("session_1"), wait_for("session_2"), wait_for("session_3"));
    drop(wait_for("session_1"));
    // One who does badly is nobody else's trouble.
    let _panics = world.guard.on_revoked(principal("session_2"), || panic!("planted"));
    feed.publish(revocation("session", "session_2"));
    feed.publish(revocation("session", "session_1"));
    // In any order: both may have come in one piece.
    let both: BTreeSet<_> = (0..2).map(|_| told.recv_timeout(Duration::from_secs(1)).unwrap()).collect();
    assert_eq!(both, BTreeSet::from(["session_1", "session_2"]));
    assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
    // What is revoked here is told too, and what was revoked before is told at once.
    let now = world.guard.clock().now();
    world.guard.revoke(Revoked::Session("session_3"), now, now.plus(Duration::from_secs(60)));
    assert_eq!(told.try_recv(), Ok("session_3"));
    let session_4 = principal("session_4");
    world.guard.revoke(Revoked::Session("session_4"), now, now.plus(Duration::from_secs(60)));
    let _late = world.guard.on_revoked(session_4, move || tell.send("session_4").unwrap());
    assert_eq!(told.try_recv(), Ok("session_4"));
    drop(kept);
}

#[test]
fn closing_lets_go_of_the_connection_at_once() {
    let (world, feed) = live();
    let began = Instant::now();
    world.guard.close();
    wait_until("it is gone", || feed.left() == 1);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(feed.connections(), 1);
}

#[test]
fn a_forked_child_listens_for_itself_with_its_first_request() {
    let (world, feed) = live();
    feed.publish(revocation("session", "session_a"));
    world.wait_for("one", |stats| stats.revocations_heard == 1);
    world.guard.after_fork();
    assert_eq!(world.guard.revocations().len(), 1, "what the parent heard of");
    assert!(matches!(world.check(("cookie", "none=at-all")), Check::Refused(Refusal::NoCredential)));
    world.wait_for("the child's own", |stats| stats.feed_live == 1 && stats.revocations_heard == 1);
    assert_eq!(feed.connections(), 2);
    assert!(is_refused_within_a_second(&world, &feed, &revocation("session", "session_1")));
}

#[test]
fn nobody_listens_before_there_is_somebody_to_let_in() {
    let world = World::new();
    let feed = Feed::on(&world.server);
    assert!(matches!(world.guard.check(&facts("GET", &[]), &Requirement::default(), None), Check::Refused(Refusal::NoCredential)));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(feed.connections(), 0);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    world.wait_for("live", |stats| stats.feed_live == 1);
}
