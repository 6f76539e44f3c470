use super::*;

#[test]
fn sixty_four_requests_with_one_expired_session_refresh_it_once_and_get_the_same_cookie() {
    let world = World::new();
    world.renew_for(300);
    let cookie = world.expired_cookie();
    let start = Barrier::new(64);
    let answers: Vec<Resolved> = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            world.ask_with_cookie(&cookie)
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((world.server.calls(AUTHENTICATE), world.guard.stats().refreshes), (1, 1));
    let fresh = new_cookie(&answers[0]);
    for answer in &answers {
        assert_eq!(answer.outcome.as_ref().unwrap().subject, "user_1");
        assert_eq!(new_cookie(answer), fresh);
    }
    let asked = world.server.asked().into_iter().find(|asked| asked.path == AUTHENTICATE).unwrap().json();
    let expected =
        json!({ "grant_type": "refresh_token", "client_id": "client_1", "client_secret": "sk_ours", "refresh_token": "refresh_0" });
    assert_eq!(asked, expected);

    // Late ones get it without waiting; the new cookie does without another.
    world.seconds_pass(29);
    let Check::Renewed(late) = world.check(("cookie", &cookie)) else { panic!("not from memory") };
    assert_eq!(new_cookie(&late), fresh);
    assert!(matches!(world.check(("cookie", &fresh)), Check::Allowed(_)));

    // Very late ones are told no, and their cookie is left alone: the browser holds a newer one.
    world.seconds_pass(1);
    let too_late = world.ask_with_cookie(&cookie);
    assert_eq!((too_late.outcome, too_late.cookies.len()), (Err(Refusal::SessionEnded), 0));
    assert_eq!(world.server.calls(AUTHENTICATE), 1);
}

#[test]
fn another_cookie_of_the_same_session_shares_the_refresh() {
    let world = World::new();
    world.renew_for(300);
    let (one, other) = (world.expired_cookie(), world.expired_cookie());
    assert_ne!(one, other);
    assert_eq!(new_cookie(&world.ask_with_cookie(&one)), new_cookie(&world.ask_with_cookie(&other)));
    assert_eq!(world.server.calls(AUTHENTICATE), 1);
}

#[test]
fn a_renewed_session_that_expires_within_memory_is_renewed_on() {
    let world = World::new();
    world.renew_for(1);
    let cookie = world.expired_cookie();
    let first = new_cookie(&world.ask_with_cookie(&cookie));
    world.seconds_pass(12);
    let second = new_cookie(&world.ask_with_cookie(&cookie));
    assert_ne!(first, second);
    assert_eq!(new_cookie(&world.ask_with_cookie(&first)), second);
    assert_eq!(world.server.calls(AUTHENTICATE), 2);
}

#[test]
fn the_end_of_a_successor_does_not_clear_a_cookie_that_has_one() {
    let world = World::new();
    world.renew_for(1);
    let cookie = world.expired_cookie();
    let successor = new_cookie(&world.ask_with_cookie(&cookie));
    world.seconds_pass(12);
    world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, r#"{"error":"invalid_grant"}"#.to_owned()));
    let old = world.ask_with_cookie(&cookie);
    assert_eq!((old.outcome, old.cookies.len()), (Err(Refusal::SessionEnded), 0));
    assert!(clears_the_cookie(&world.ask_with_cookie(&successor)));
}

#[test]
fn an_ended_session_is_cleared_and_not_asked_about_again_at_once() {
    for code in ["invalid_grant", "mfa_enrollment", "sso_required"] {
        let world = World::new();
        world.server.on_path(AUTHENTICATE, move |_| Does::Answer(400, json!({ "error": code, "error_description": "x" }).to_string()));
        let cookie = world.expired_cookie();
        for _ in 0..10 {
            let ended = world.ask_with_cookie(&cookie);
            assert_eq!(ended.outcome, Err(Refusal::SessionEnded));
            assert!(clears_the_cookie(&ended));
            world.clock.advance(Duration::from_millis(499));
        }
        assert_eq!(world.server.calls(AUTHENTICATE), 1);
        world.seconds_pass(1);
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::SessionEnded));
        assert_eq!(world.server.calls(AUTHENTICATE), 2);
    }
}

#[test]
fn passing_trouble_keeps_the_cookie_and_says_503() {
    let error = |status: u16, code: &str| Does::Answer(status, json!({ "error": code }).to_string());
    type Trouble = (&'static str, fn(&dyn Fn(u16, &str) -> Does) -> Does);
    let troubles: [Trouble; 14] = [
        ("408", |_| Does::Answer(408, String::new())),
        ("429", |_| Does::AnswerWith(429, "retry-after: 7", "{}".to_owned())),
        ("500", |_| Does::Answer(500, String::new())),
        ("502", |_| Does::Answer(502, "<html>".to_owned())),
        ("503", |_| Does::Answer(503, String::new())),
        ("html", |_| Does::Answer(200, "<html>".to_owned())),
        ("empty object", |_| Does::Answer(200, "{}".to_owned())),
        ("400 without a code", |_| Does::Answer(400, "<html>".to_owned())),
        ("404", |_| Does::Answer(404, "{}".to_owned())),
        ("redirect", |_| Does::AnswerWith(307, "location: /elsewhere", String::new())),
        ("cut", |_| Does::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"user\":".to_vec())),
        ("nothing", |_| Does::Raw(Vec::new())),
        ("our mistake", |error| error(400, "invalid_client")),
        ("our mistake", |error| error(401, "unauthorized")),
    ];
    let world = World::new();
    let cookie = world.expired_cookie();
    for (name, trouble) in troubles {
        world.server.on_path(AUTHENTICATE, move |_| trouble(&error));
        let answer = world.ask_with_cookie(&cookie);
        assert!(is_unavailable(&answer) && answer.cookies.is_empty(), "{name}: {answer:?}");
        if name == "429" {
            assert_eq!(answer.outcome.unwrap_err().retry_after(), Some(7));
        }
        world.seconds_pass(31);
    }
    world.renew_for(300);
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
}

#[test]
fn with_the_server_stopped_valid_sessions_go_on_and_expired_ones_are_told_to_come_again() {
    let world = World::new();
    let seen = world.cookie(world.token(&world.key, 3600), "refresh_0");
    assert!(world.ask_with_cookie(&seen).outcome.is_ok());
    let unseen = world.cookie(world.token(&world.key, 3600), "refresh_5");
    let expired = world.expired_cookie();
    world.server.stop();
    assert!(matches!(world.check(("cookie", &seen)), Check::Allowed(_)));
    assert!(matches!(world.check(("cookie", &unseen)), Check::Allowed(_)));
    let answer = world.ask_with_cookie(&expired);
    assert!(is_unavailable(&answer) && answer.cookies.is_empty());
    // Now it is known to be away: nobody waits.
    assert!(matches!(world.check(("cookie", &expired)), Check::Refused(Refusal::Unavailable { .. })));
    world.seconds_pass(1);
    assert!(matches!(world.check(("cookie", &expired)), Check::Needs(_)));
}

#[test]
fn a_server_that_hangs_is_given_five_seconds() {
    let world = World::new();
    world.server.on_path(AUTHENTICATE, |_| Does::Hang);
    let cookie = world.expired_cookie();
    let began = Instant::now();
    assert!(is_unavailable(&world.ask_with_cookie(&cookie)));
    assert!((4..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[test]
fn a_hanging_key_endpoint_does_not_delay_refreshes() {
    let world = World::new();
    world.renew_for(300);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    world.server.on_path(JWKS, |_| Does::Hang);
    world.seconds_pass(900);
    assert!(world.is_let_in());
    while world.server.calls(JWKS) < 2 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn the_token_of_another_user_or_session_is_never_taken() {
    for (user, session) in [("user_2", "session_1"), ("user_1", "session_2"), ("user_2", "session_2")] {
        let world = World::new();
        let token = world.token_of(&world.key, 300, user, session);
        let body = json!({ "user": { "id": user }, "access_token": token, "refresh_token": "refresh_1" });
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let answer = world.ask_with_cookie(&world.expired_cookie());
        assert_eq!(answer.outcome, Err(Refusal::InvalidSession), "{user} {session}");
        assert!(!answer.cookies.iter().any(|cookie| cookie.len() > 200), "no session may be set");
    }
}

#[test]
fn a_new_token_is_verified_before_it_is_believed() {
    let world = World::new();
    let forger = new_key("key_1");
    let body = answer(world.token(&forger, 300), "refresh_1");
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let cookie = world.expired_cookie();
    assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::InvalidSession));
}

#[test]
fn a_new_token_of_an_unpublished_key_waits_and_costs_no_second_refresh() {
    let world = World::new();
    let next = new_key("key_2");
    let body = answer(world.token(&next, 3600), "refresh_1");
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let cookie = world.expired_cookie();
    let answer = world.ask_with_cookie(&cookie);
    assert!(is_unavailable(&answer) && answer.cookies.is_empty());
    world.publish(&[&world.key, &next]);
    world.seconds_pass(31);
    let answer = world.ask_with_cookie(&cookie);
    assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
    assert_eq!(world.server.calls(AUTHENTICATE), 1);
}

#[test]
fn a_session_of_a_key_that_is_gone_is_renewed() {
    let world = World::new();
    world.renew_for(300);
    let gone = new_key("gone");
    let cookie = world.cookie(world.token(&gone, 300), "refresh_0");
    let answer = world.ask_with_cookie(&cookie);
    assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
}

#[test]
fn a_session_without_a_refresh_token_ends_when_it_expires() {
    let world = World::new();
    let cookie = world.cookie(world.token(&world.key, -60), "");
    assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::SessionEnded));
    assert_eq!(world.server.calls(AUTHENTICATE), 0);
}

#[test]
fn a_request_from_another_site_refreshes_nothing() {
    let world = World::new();
    world.renew_for(300);
    let cookie = world.expired_cookie();
    let foreign = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
    let check = world.guard.check(&facts("POST", &foreign), &Requirement::default(), None);
    assert!(matches!(check, Check::Refused(Refusal::CrossSite)), "{check:?}");
    let bare = world.guard.check(&facts("POST", &foreign[..1]), &Requirement::default(), None);
    assert!(matches!(bare, Check::Refused(Refusal::CrossSite)), "{bare:?}");
    assert_eq!(world.server.calls(AUTHENTICATE), 0);

    let token = csrf_token(&world.guard.config().session.as_ref().unwrap().password, "session_1");
    for (sent, right) in [(token.as_str(), true), ("guess", false)] {
        let headers = [("cookie", cookie.as_str()), ("x-csrf-token", sent)];
        let answer = finish(&world.guard, world.guard.check(&facts("POST", &headers), &Requirement::default(), None));
        assert_eq!(answer.outcome.is_ok(), right);
    }
}

#[test]
fn a_revoked_session_is_refused_though_it_was_seen_and_though_it_is_renewed() {
    let world = World::new();
    world.renew_for(300);
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    let now = world.guard.clock().now();
    world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(3600)));
    assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::Revoked));
    assert_eq!(world.ask_with_cookie(&world.expired_cookie()).outcome, Err(Refusal::Revoked));
}

#[test]
fn a_sealed_session_is_refused_when_its_time_is_over_though_it_was_seen_and_its_token_holds() {
    for format in ["workos_python", "workos_node"] {
        let world = World::with(|config, _| {
            config["session"]["format"] = format.into();
            config["session"]["max_age"] = 60.into();
        });
        let cookie = world.cookie(world.token(&world.key, 3600), "refresh_0");
        assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
        world.seconds_pass(60);
        assert!(matches!(world.check(("cookie", &cookie)), Check::Allowed(_)), "{format}");
        // Iron grants a minute to clocks that differ.
        world.seconds_pass(if format == "workos_node" { 60 } else { 1 });
        assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::InvalidSession), "{format}");
    }
}

#[test]
fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let world = World::new();
    let (base, clock, key) = (world.server.url(), Arc::clone(&world.clock), Arc::clone(&world.key));
    world.server.on_path(AUTHENTICATE, move |_| {
        Does::AnswerAndHangUp(answer(token_of(&base, &clock, &key, 300, "user_1", "session_1"), "refresh_1").to_string())
    });
    for n in 10..20 {
        let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{n}"));
        assert!(world.ask_with_cookie(&cookie).outcome.is_ok(), "{n}");
    }
}
