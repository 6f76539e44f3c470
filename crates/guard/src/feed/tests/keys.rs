use super::*;

#[test]
fn sixty_four_first_requests_fetch_the_keys_once() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let start = Barrier::new(64);
    let allowed = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            world.ask(("authorization", &bearer)).outcome.is_ok()
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|allowed| *allowed).count()
    });
    assert_eq!((allowed, world.server.calls(JWKS)), (64, 1));
}

#[test]
fn a_guard_asks_nobody_before_it_must_and_warming_asks_for_all_keys() {
    let world = World::new();
    assert!(matches!(world.guard.check(&facts("GET", &[]), &Requirement::default(), None), Check::Refused(Refusal::NoCredential)));
    assert!(world.server.asked().is_empty());
    world.guard.warm();
    world.wait_for("both of our issuers", |stats| stats.key_fetches == 2);
    assert!(world.is_let_in());
}

#[test]
fn a_cold_start_without_the_server_asks_once_in_each_back_off() {
    let world = World::new();
    world.server.on_path(JWKS, |_| Does::Answer(500, String::new()));
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let header = ("authorization", bearer.as_str());
    for (calls, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
        assert!(is_unavailable(&world.ask(header)));
        assert_eq!(world.server.calls(JWKS), calls);
        // At once, and without another call.
        assert!(matches!(world.check(header), Check::Refused(Refusal::Unavailable { .. })));
        world.clock.advance(Duration::from_secs(pause) - Duration::from_millis(1));
        assert!(matches!(world.check(header), Check::Refused(Refusal::Unavailable { .. })), "{pause}");
        world.clock.advance(Duration::from_millis(1));
    }
    world.publish(&[&world.key]);
    assert!(world.ask(header).outcome.is_ok());
}

#[test]
fn an_unknown_kid_is_looked_up_once_in_thirty_seconds() {
    let world = World::new();
    world.guard.warm();
    world.wait_for("keys", |stats| stats.key_fetches == 2);
    let stranger = new_key("stranger");
    let ask = || world.ask(("authorization", &format!("Bearer {}", world.token(&stranger, 3600)))).outcome;
    let unknown = Refusal::InvalidToken(jose::Refusal::UnknownKey);
    for _ in 0..20 {
        assert_eq!(ask(), Err(unknown.clone()));
    }
    assert_eq!(world.server.calls(JWKS), 2);
    world.clock.advance(Duration::from_millis(29_999));
    assert_eq!(ask(), Err(unknown.clone()));
    assert_eq!(world.server.calls(JWKS), 2);
    world.clock.advance(Duration::from_millis(1));
    world.publish(&[&world.key, &stranger]);
    assert!(ask().is_ok());
    assert_eq!(world.server.calls(JWKS), 3);
}

#[test]
fn keys_are_fetched_again_in_the_background_and_what_a_gone_key_signed_is_refused() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token(&world.key, 3600));
    let header = ("authorization", bearer.as_str());
    assert!(world.ask(header).outcome.is_ok());
    world.seconds_pass(299);
    assert!(matches!(world.check(header), Check::Allowed(_)));
    let next = new_key("key_2");
    let (let_go, held) = mpsc::channel::<()>();
    let (held, keys) = (std::sync::Mutex::new(held), jwks(&[&next]));
    world.server.on_path(JWKS, move |_| {
        assert!(held.lock().unwrap().recv().is_err());
        ok(&keys)
    });
    world.seconds_pass(1);
    // Still let in, and the fetch is under way.
    assert!(matches!(world.check(header), Check::Allowed(_)));
    drop(let_go);
    world.wait_for("a second fetch", |stats| stats.key_fetches == 2);
    while world.guard.stats().cache_entries > 0 {
        std::thread::yield_now();
    }
    assert_eq!(world.ask(header).outcome, Err(Refusal::InvalidToken(jose::Refusal::UnknownKey)));
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&next, 60)))).outcome.is_ok());
}

#[test]
fn max_age_is_followed_between_one_and_fifteen_minutes() {
    for (max_age, interval) in
        [("cache-control: max-age=1", 60), ("cache-control: max-age=120", 120), ("cache-control: max-age=99999", 900)]
    {
        let world = World::new();
        let body = jwks(&[&world.key]).to_string();
        world.server.on_path(JWKS, move |_| Does::AnswerWith(200, max_age, body.clone()));
        assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
        world.seconds_pass(interval - 1);
        assert!(world.is_let_in());
        assert!(!world.guard.engine().is_key_fetch_due(world.guard.clock().now()));
        world.seconds_pass(1);
        assert!(world.is_let_in());
        world.wait_for("another fetch", |stats| stats.key_fetches == 2);
    }
}

#[test]
fn garbage_never_replaces_good_keys() {
    let world = World::new();
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    let stranger = new_key("stranger");
    let mut private = jwks(&[&stranger]);
    private["keys"][0]["d"] = "AAAA".into();
    let oct = json!({ "keys": [jwks(&[&stranger])["keys"][0], { "kty": "oct", "kid": "s", "k": "AAAA" }] });
    let twice = json!({ "keys": [jwks(&[&stranger])["keys"][0], jwks(&[&new_key("stranger")])["keys"][0]] });
    let oversize = json!({ "keys": jwks(&[&stranger])["keys"], "padding": "x".repeat(300 * 1024) });
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes();
    let mut garbage: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"keys\":[".to_vec(),
        [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 100_000], b"\r\n\r\n".to_vec()].concat(),
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/keys\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nlocation: /sso/jwks/client_1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
    ];
    let bodies = [private, oct, twice, oversize, json!({ "keys": [] }), json!({ "keys": {} }), json!({}), json!([]), json!("keys")];
    garbage.extend(bodies.iter().map(|body| answer(&body.to_string())));
    garbage.push(answer("<html>Sign in to the coffee shop's network</html>"));
    for (n, octets) in garbage.into_iter().enumerate() {
        let shown = String::from_utf8_lossy(&octets).chars().take(120).collect::<String>();
        world.server.on_path(JWKS, move |_| Does::Raw(octets.clone()));
        world.seconds_pass(300);
        assert!(world.is_let_in(), "{shown}");
        world.wait_for(&shown, |stats| stats.key_fetch_failures == n as u64 + 1);
        assert!(world.is_let_in(), "{shown}");
        let forged = format!("Bearer {}", world.token(&stranger, 60));
        assert!(world.ask(("authorization", &forged)).outcome.is_err(), "{shown}");
    }
}

#[test]
fn a_redirect_within_the_origin_is_followed() {
    let world = World::new();
    let body = jwks(&[&world.key]);
    world.server.on_path(JWKS, |_| Does::AnswerWith(307, "location: /keys", String::new()));
    world.server.on_path("/keys", move |_| ok(&body));
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
}

#[test]
fn a_redirect_to_another_origin_is_not_followed() {
    let world = World::new();
    let elsewhere = Server::start();
    let body = jwks(&[&world.key]);
    elsewhere.on_path("/keys", move |_| ok(&body));
    let address = elsewhere.url();
    for location in [format!("{address}/keys"), format!("{}/keys", address.trim_start_matches("http:"))] {
        let shown = location.clone();
        world.server.on_path(JWKS, move |_| {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            Does::Raw(head.into_bytes())
        });
        assert!(is_unavailable(&world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60))))), "{shown}");
        world.seconds_pass(30);
    }
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_key_that_is_another_under_its_old_name_has_gone_too() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token(&world.key, 3600));
    assert!(world.ask(("authorization", &bearer)).outcome.is_ok());
    let successor = new_key("key_1");
    world.publish(&[&successor]);
    world.seconds_pass(300);
    drop(world.check(("authorization", &bearer)));
    world.wait_for("a fetch", |stats| stats.key_fetches == 2);
    world.wait_for("it to be forgotten", |stats| stats.cache_entries == 0);
    assert_eq!(world.ask(("authorization", &bearer)).outcome, Err(Refusal::InvalidToken(jose::Refusal::BadSignature)));
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&successor, 60)))).outcome.is_ok());
}

#[test]
fn a_set_of_more_than_a_hundred_keys_is_not_parsed() {
    let world = World::new();
    let one = jwks(&[&world.key])["keys"][0].clone();
    for (more, is_read) in [(100, false), (99, true)] {
        let others = (0..more).map(|n| {
            let mut other = one.clone();
            other["kid"] = format!("other_{n}").into();
            other
        });
        let body = json!({ "keys": others.chain([one.clone()]).collect::<Vec<_>>() });
        world.server.on_path(JWKS, move |_| ok(&body));
        assert_eq!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok(), is_read, "{more}");
        world.seconds_pass(30);
    }
}

#[test]
fn keys_known_stay_in_force_while_the_server_is_away_and_while_it_hangs_or_trickles() {
    let world = World::new();
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    for does in [|| Does::Hang, || Does::Trickle] {
        world.server.on_path(JWKS, move |_| does());
        world.seconds_pass(900);
        let failures = world.guard.stats().key_fetch_failures;
        let began = Instant::now();
        assert!(world.is_let_in());
        assert!(began.elapsed() < Duration::from_secs(1), "a check waited for keys");
        world.wait_for("five seconds", |stats| stats.key_fetch_failures == failures + 1);
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    }
    world.server.stop();
    world.seconds_pass(100_000);
    assert!(world.is_let_in());
}

#[test]
fn an_issuer_without_keys_yet_disturbs_nobody() {
    let world = World::new();
    let machine = |n: u32| {
        let now = world.guard.clock().now().seconds();
        let claims = json!({ "iss": world.server.url(), "sub": "client_9", "client_id": "client_9", "aud": "client_1", "iat": now, "exp": now + 600, "jti": n.to_string() });
        format!("Bearer {}", world.key.sign_jwt(&claims).unwrap())
    };
    assert_eq!(world.ask(("authorization", &machine(0))).outcome, Err(Refusal::InvalidToken(jose::Refusal::UnknownKey)));
    assert!(matches!(world.check(("authorization", &machine(1))), Check::Refused(Refusal::InvalidToken(_))));
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    world.seconds_pass(29);
    assert!(matches!(world.check(("authorization", &machine(2))), Check::Refused(Refusal::InvalidToken(_))));
    assert_eq!(world.server.calls("/oauth2/jwks"), 1);
    let body = jwks(&[&world.key]);
    world.server.on_path("/oauth2/jwks", move |_| ok(&body));
    world.seconds_pass(1);
    assert_eq!(world.ask(("authorization", &machine(3))).outcome.unwrap().kind, Kind::Machine);
}

#[test]
fn nothing_of_an_https_issuer_goes_over_plain_http() {
    let read = |issuer: &str, jwks_uri: &str, endpoint: &str| {
        let document = json!({ "issuer": issuer, "jwks_uri": jwks_uri, "introspection_endpoint": endpoint });
        Metadata::read(&Issuer::new("idp", issuer, IssuerKind::Openid), document.as_object().unwrap())
    };
    let (secure, plain) = ("https://keys.example/keys", "http://127.0.0.1:1/keys");
    for jwks_uri in [plain, "http://keys.example/keys", "//keys.example/keys", "file:///keys", ""] {
        assert!(read("https://idp.example", jwks_uri, secure).is_err(), "{jwks_uri}");
    }
    assert_eq!(read("https://idp.example", secure, secure).unwrap().introspection_endpoint.as_deref(), Some(secure));
    // It would be sent the client's secret.
    assert_eq!(read("https://idp.example", secure, plain).unwrap().introspection_endpoint, None);
    assert_eq!(read("http://127.0.0.1:1", plain, plain).unwrap().jwks_uri, plain);
}

#[test]
fn metadata_of_another_issuer_is_refused() {
    let idp = |config: &mut Value, base: &str| {
        config["issuers"] = json!([{ "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"], "algorithms": ["EdDSA"] }]);
    };
    let token = |world: &World| {
        let now = world.guard.clock().now().seconds();
        let claims = json!({ "iss": format!("{}/idp", world.server.url()), "sub": "u", "aud": "api", "iat": now, "exp": now + 600 });
        format!("Bearer {}", world.key.sign_jwt(&claims).unwrap())
    };
    let world = World::with(idp);
    let base = world.server.url();
    let keys = jwks(&[&world.key]);
    world.server.on_path("/idp/keys", move |_| ok(&keys));
    let documents = [
        json!({ "issuer": format!("{base}/idp/"), "jwks_uri": format!("{base}/idp/keys") }),
        json!({ "issuer": "https://evil.example", "jwks_uri": format!("{base}/idp/keys") }),
        json!({ "jwks_uri": format!("{base}/idp/keys") }),
        json!({ "issuer": format!("{base}/idp"), "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": format!("{base}/idp") }),
    ];
    for document in documents {
        let shown = document.to_string();
        world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&document));
        assert!(is_unavailable(&world.ask(("authorization", &token(&world)))), "{shown}");
        world.seconds_pass(30);
    }
    assert_eq!(world.server.calls("/idp/keys"), 0);
    let right = json!({ "issuer": format!("{base}/idp"), "jwks_uri": format!("{base}/idp/keys") });
    world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&right));
    assert_eq!(world.ask(("authorization", &token(&world))).outcome.unwrap().subject, "u");
}
