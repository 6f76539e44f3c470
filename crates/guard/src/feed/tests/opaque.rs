use super::*;

fn world() -> World {
    World::with(|config, base| {
        config["issuers"] = json!([
            { "name": "closed", "issuer": format!("{base}/closed"), "audiences": ["api"], "jwks_uri": format!("{base}/closed/keys"), "algorithms": ["EdDSA"] },
            { "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"],
              "introspection": { "endpoint": format!("{base}/idp/introspect"), "client_id": "an app", "client_secret": "s:ö" },
              "mapping": { "grants": { "scope:read": ["items:read"] } } },
        ]);
    })
}

const INTROSPECT: &str = "/idp/introspect";

fn active(world: &World, change: impl FnOnce(&mut Value)) {
    let now = world.guard.clock().now().seconds();
    let mut body = json!({ "active": true, "sub": "u", "client_id": "c", "scope": "read", "iss": format!("{}/idp", world.server.url()), "aud": ["api"], "exp": now + 300 });
    change(&mut body);
    world.server.on_path(INTROSPECT, move |_| ok(&body));
}

#[test]
fn an_active_token_is_let_in_with_mapped_permissions_and_kept_for_ten_seconds() {
    let world = world();
    active(&world, |_| {});
    let header = ("authorization", "Bearer opaque-token");
    let principal = world.ask(header).outcome.unwrap();
    assert_eq!((principal.subject.as_str(), principal.via, &principal.permissions[..]), ("u", Via::Bearer, &["items:read".to_owned()][..]));
    assert!(matches!(world.check(header), Check::Allowed(_)));
    world.clock.advance(Duration::from_millis(9_999));
    assert!(matches!(world.check(header), Check::Allowed(_)));
    world.clock.advance(Duration::from_millis(1));
    assert!(matches!(world.check(header), Check::Needs(_)));

    let elsewhere = world.server.asked().into_iter().filter(|asked| asked.path != super::feed::FEED).collect::<Vec<_>>();
    let [asked] = &elsewhere[..] else { panic!("asked somebody else") };
    assert_eq!((asked.path.as_str(), asked.form("token").as_deref()), (INTROSPECT, Some("opaque-token")));
    assert_eq!(asked.authorization.as_deref(), Some(format!("Basic {}", b64::encode_std("an+app:s%3A%C3%B6")).as_str()));
}

#[test]
fn an_answer_is_not_kept_beyond_the_token() {
    let world = world();
    let now = world.guard.clock().now().seconds();
    active(&world, |body| body["exp"] = (now - 7).into());
    let header = ("authorization", "Bearer opaque-token");
    assert!(world.ask(header).outcome.is_ok());
    world.seconds_pass(2);
    assert!(matches!(world.check(header), Check::Allowed(_)));
    world.seconds_pass(1);
    assert!(matches!(world.check(header), Check::Needs(_)));
}

#[test]
fn what_the_issuer_does_not_vouch_for_is_refused() {
    let changes: [fn(&mut Value); 6] = [
        |body| *body = json!({ "active": false }),
        |body| body["active"] = "true".into(),
        |body| body["iss"] = "https://evil.example".into(),
        |body| body["aud"] = json!(["another api"]),
        |body| body["exp"] = 1.into(),
        |body| body["token_use"] = "refresh".into(),
    ];
    for change in changes {
        let world = world();
        active(&world, change);
        assert!(world.ask(("authorization", "Bearer opaque-token")).outcome.is_err());
    }
    let world = world();
    active(&world, |body| *body = json!({ "active": false }));
    assert_eq!(world.ask(("authorization", "Bearer opaque-token")).outcome, Err(Refusal::Inactive));
    assert!(matches!(world.check(("authorization", "Bearer opaque-token")), Check::Refused(Refusal::Inactive)));
    assert_eq!(world.server.calls(INTROSPECT), 1);
}

#[test]
fn an_issuer_that_does_not_answer_refuses_for_now_only() {
    let world = world();
    world.server.on_path(INTROSPECT, |_| Does::Answer(500, String::new()));
    let header = ("authorization", "Bearer opaque-token");
    assert!(is_unavailable(&world.ask(header)));
    active(&world, |_| {});
    world.seconds_pass(2);
    assert!(world.ask(header).outcome.is_ok());
}

/// What strangers send is not to decide over the others.
#[test]
fn a_token_that_the_issuer_will_not_read_shuts_out_nobody_else() {
    let world = world();
    let now = world.guard.clock().now().seconds();
    let body = json!({ "active": true, "sub": "u", "client_id": "c", "aud": ["api"], "exp": now + 300 }).to_string();
    for status in [400, 413, 414, 422, 431] {
        let body = body.clone();
        world.server.on_path(INTROSPECT, move |asked: &Asked| match asked.form("token").unwrap().starts_with("good") {
            true => Does::Answer(200, body.clone()),
            false => Does::Answer(status, String::new()),
        });
        assert!(is_unavailable(&world.ask(("authorization", "Bearer odd"))), "{status}");
        assert!(world.ask(("authorization", &format!("Bearer good-{status}"))).outcome.is_ok(), "{status}");
    }
    // These are said of us, or of everybody.
    for status in [401, 403, 404, 408, 429, 500] {
        world.seconds_pass(60);
        world.server.on_path(INTROSPECT, move |_| Does::Answer(status, String::new()));
        assert!(is_unavailable(&world.ask(("authorization", "Bearer odd"))), "{status}");
        let asked = world.server.calls(INTROSPECT);
        assert!(is_unavailable(&world.ask(("authorization", "Bearer other"))), "{status}");
        assert_eq!(world.server.calls(INTROSPECT), asked, "{status}");
    }
}

#[test]
fn a_token_goes_only_to_those_who_can_tell() {
    let world = world();
    active(&world, |_| {});
    let forger = new_key("key_1");
    let now = world.guard.clock().now().seconds();
    let ours = world.token(&forger, 300);
    let closed =
        forger.sign_jwt(&json!({ "iss": format!("{}/closed", world.server.url()), "sub": "u", "aud": "api", "exp": now + 60 })).unwrap();
    let nobody = forger.sign_jwt(&json!({ "iss": "https://nobody.example", "sub": "u", "aud": "api", "exp": now + 60 })).unwrap();
    for token in [ours, closed, nobody] {
        assert!(world.ask(("authorization", &format!("Bearer {token}"))).outcome.is_err());
    }
    assert_eq!(world.server.calls(INTROSPECT), 0);

    let alone = World::new();
    assert!(matches!(alone.check(("authorization", "Bearer opaque-token")), Check::Refused(Refusal::InvalidToken(_))));
    assert!(alone.server.asked().is_empty());
}

#[test]
fn a_fresh_token_is_asked_about_at_its_issuer_alone() {
    let world = World::with(|config, base| {
        let issuer = |name: &str| {
            json!({ "name": name, "issuer": format!("{base}/{name}"), "audiences": ["api"], "algorithms": ["EdDSA"], "jwks_uri": format!("{base}/{name}/keys"),
                    "introspection": { "endpoint": format!("{base}/{name}/introspect"), "client_id": "c", "client_secret": "s" } })
        };
        config["issuers"] = json!([issuer("one"), issuer("other")]);
    });
    let keys = jwks(&[&world.key]);
    world.server.on_path("/other/keys", move |_| ok(&keys));
    let now = world.guard.clock().now().seconds();
    let claims = json!({ "iss": format!("{}/other", world.server.url()), "sub": "u", "aud": "api", "exp": now + 300 });
    let mut body = claims.clone();
    body["active"] = true.into();
    world.server.on_path("/other/introspect", move |_| ok(&body));
    world.server.on_path("/one/introspect", |_| ok(&json!({ "active": false })));
    let bearer = format!("Bearer {}", world.key.sign_jwt(&claims).unwrap());
    let fresh = Requirement { fresh: true, ..Requirement::default() };
    assert_eq!(world.ask_as(&fresh, ("authorization", &bearer)).outcome.unwrap().subject, "u");
    assert_eq!((world.server.calls("/one/introspect"), world.server.calls("/other/introspect")), (0, 1));
}

#[test]
fn what_is_fresh_of_somebody_else_is_not_said_of_who_was_known() {
    let world = world();
    let header = ("authorization", "Bearer opaque-token");
    active(&world, |_| {});
    assert_eq!(world.ask(header).outcome.unwrap().subject, "u");
    active(&world, |body| body["sub"] = "v".into());
    let fresh = Requirement { fresh: true, ..Requirement::default() };
    assert_eq!(world.ask_as(&fresh, header).outcome.unwrap().subject, "v");
}

#[test]
fn the_endpoint_is_found_in_the_metadata() {
    let world = World::with(|config, base| {
        config["issuers"] = json!([{ "name": "idp", "issuer": format!("{base}/idp"), "audiences": ["api"], "introspection": { "client_id": "a", "client_secret": "b" } }]);
    });
    let base = world.server.url();
    let document = json!({ "issuer": format!("{base}/idp"), "jwks_uri": format!("{base}/idp/keys"), "introspection_endpoint": format!("{base}{INTROSPECT}") });
    world.server.on_path("/idp/.well-known/openid-configuration", move |_| ok(&document));
    active(&world, |_| {});
    assert!(world.ask(("authorization", "Bearer one")).outcome.is_ok());
    assert!(world.ask(("authorization", "Bearer two")).outcome.is_ok());
    assert_eq!(world.server.calls("/idp/.well-known/openid-configuration"), 1);
}
