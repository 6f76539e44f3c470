use super::*;

/// The query of the callback and the cookie of the attempt.
pub(super) fn begin(world: &World) -> (String, String) {
    let options = LoginOptions { return_to: Some("/expenses?page=2"), ..LoginOptions::default() };
    let login = begin_login(
        world.guard.config(),
        "https://app.example/callback",
        &options,
        &Many::default(),
        world.guard.rng(),
        world.guard.clock().now(),
    )
    .unwrap();
    let query = login.url.split_once('?').unwrap().1;
    let state = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state").unwrap().1.into_owned();
    (format!("code=code_1&state={state}"), login.set_cookie.split(';').next().unwrap().to_owned())
}

pub(super) fn exchange(world: &World, query: &str, cookie: &str) -> LoginResult {
    let (tell, told) = mpsc::channel();
    world.guard.exchange_code(query, &facts("GET", &[("cookie", cookie)]), Some("Firefox"), Some("192.0.2.1"), move |result| {
        tell.send(result).unwrap()
    });
    told.recv_timeout(Duration::from_secs(15)).unwrap()
}

#[test]
fn a_code_becomes_a_session_cookie_that_is_let_in() {
    let world = World::new();
    let body = answer(world.token(&world.key, 300), "refresh_0");
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let (query, attempt) = begin(&world);
    let result = exchange(&world, &query, &attempt);
    assert_eq!((result.status, result.location.as_deref(), result.problem), (303, Some("/expenses?page=2"), None));
    assert_eq!(result.principal.unwrap().email.as_deref(), Some("ann@example.com"));
    let [clear, set] = &result.cookies[..] else { panic!("{:?}", result.cookies) };
    assert!(clear.starts_with(attempt.split('=').next().unwrap()) && clear.contains("Max-Age=0"));
    assert!(world.ask_with_cookie(set.split(';').next().unwrap()).outcome.is_ok());

    let asked = world.server.asked().into_iter().find(|asked| asked.path == AUTHENTICATE).unwrap().json();
    assert_eq!(
        (asked["grant_type"].as_str(), asked["code"].as_str(), asked["client_secret"].as_str()),
        (Some("authorization_code"), Some("code_1"), Some("sk_ours"))
    );
    assert_eq!((asked["user_agent"].as_str(), asked["ip_address"].as_str()), (Some("Firefox"), Some("192.0.2.1")));
    assert_eq!(asked["code_verifier"].as_str().map(str::len), Some(43));
}

#[test]
fn a_code_that_nobody_asked_for_is_good_for_an_impersonation_and_nothing_else() {
    let world = World::new();
    let (plain, refresh) = (world.token(&world.key, 300), "refresh_0");
    let acted = world.token_acted("sam@support.test");
    let of = |token: String, impersonator: bool| {
        let mut body = answer(token, refresh);
        if impersonator {
            body["impersonator"] = json!({"email": "sam@support.test", "reason": "help"});
        }
        body
    };
    // Login CSRF: the code of the attacker's own account, planted in the victim's browser; whatever the answer calls itself.
    for body in [of(plain.clone(), false), of(plain, true), of(acted.clone(), false)] {
        world.server.on_path(AUTHENTICATE, move |_| ok(&body));
        let planted = exchange(&world, "code=code_1", "");
        assert_eq!((planted.status, planted.cookies.len(), planted.principal), (400, 0, None));
    }
    let body = of(acted, true);
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let result = exchange(&world, "code=code_1", "");
    assert_eq!((result.status, result.location.as_deref(), result.cookies.len()), (303, Some("/"), 1));
    assert_eq!(result.principal.unwrap().actor.as_deref(), Some("sam@support.test"));
    let asked = world.server.asked().into_iter().rfind(|asked| asked.path == AUTHENTICATE).unwrap().json();
    assert!(asked.get("code_verifier").is_none(), "{asked}");
    let calls = world.server.calls(AUTHENTICATE);
    assert_eq!(exchange(&world, "code=code_1&state=", "").status, 400);
    assert_eq!(world.server.calls(AUTHENTICATE), calls, "a callback with a state of nobody's asks nothing");
}

#[test]
fn a_sign_in_that_fails_sets_no_session_and_says_why() {
    let world = World::new();
    let (query, attempt) = begin(&world);
    world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, r#"{"error":"invalid_grant","error_description":"x"}"#.to_owned()));
    let refused = exchange(&world, &query, &attempt);
    assert_eq!((refused.status, refused.cookies.len()), (400, 1));
    assert!(refused.problem.unwrap().contains("invalid_grant"));

    let strange = exchange(&world, &query, "");
    assert_eq!((strange.status, strange.cookies.len(), strange.principal), (400, 0, None));

    let forger = new_key("key_1");
    let body = answer(world.token(&forger, 300), "refresh_0");
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let forged = exchange(&world, &query, &attempt);
    assert_eq!((forged.status, forged.cookies.len(), forged.principal), (503, 1, None));

    // A code is sent once: the server takes a second time for theft. Whether the first arrived, nobody can say.
    world.server.on_path(AUTHENTICATE, |_| Does::Raw(Vec::new()));
    let asked = world.server.calls(AUTHENTICATE);
    assert_eq!(exchange(&world, &query, &attempt).status, 503);
    assert_eq!(world.server.calls(AUTHENTICATE), asked + 1);

    world.server.stop();
    world.seconds_pass(60);
    let away = exchange(&world, &query, &attempt);
    assert_eq!((away.status, away.cookies.len(), away.principal), (503, 1, None));
}
