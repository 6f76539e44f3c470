use super::*;

fn know(world: &World) {
    world.server.on_path(VALIDATIONS, |asked: &Asked| {
        let key = match asked.json()["value"].as_str().unwrap() {
            "sk_org" => json!({ "id": "api_key_1", "owner": { "type": "organization", "id": "org_1" }, "permissions": ["items:read"], "expires_at": null }),
            "sk_user" => json!({ "id": "api_key_2", "owner": { "type": "user", "id": "user_1", "organization_id": "org_2" }, "expires_at": "2027-01-15T08:00:05.000Z" }),
            "sk_old" => json!({ "id": "api_key_3", "owner": { "type": "organization", "id": "org_1" }, "expires_at": "2020-01-01T00:00:00.000Z" }),
            _ => Value::Null,
        };
        ok(&json!({ "api_key": key }))
    });
}

#[test]
fn a_key_is_asked_about_once_in_ten_seconds() {
    let world = World::new();
    know(&world);
    let principal = world.ask(("x-api-key", "sk_org")).outcome.unwrap();
    assert_eq!(
        (principal.kind, principal.subject.as_str(), principal.organization_id.as_deref()),
        (Kind::ApiKey, "api_key_1", Some("org_1"))
    );
    assert_eq!((&principal.permissions[..], principal.key_id.as_deref()), (&["items:read".to_owned()][..], Some("api_key_1")));
    assert!(matches!(world.check(("authorization", "Bearer sk_org")), Check::Allowed(_)));
    assert_eq!(world.ask(("x-api-key", "sk_nobody")).outcome, Err(Refusal::Inactive));
    assert!(matches!(world.check(("x-api-key", "sk_nobody")), Check::Refused(Refusal::Inactive)));
    assert_eq!(world.ask(("x-api-key", "sk_old")).outcome, Err(Refusal::Inactive));
    assert_eq!(world.server.calls(VALIDATIONS), 3);
    assert!(world.server.asked().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer sk_ours")));
    world.seconds_pass(10);
    assert!(matches!(world.check(("x-api-key", "sk_org")), Check::Needs(_)));
}

#[test]
fn a_key_whose_checksum_is_wrong_is_refused_without_asking() {
    let world = World::new();
    know(&world);
    let key = jose::api_key::mint_of_customer(&SeededRng::new(3));
    let (front, last) = key.reveal().split_at(key.reveal().len() - 1);
    let wrong = format!("{front}{}", if last == "x" { "y" } else { "x" });
    for header in [("x-api-key", wrong.clone()), ("authorization", format!("Bearer {wrong}"))] {
        assert!(matches!(world.check((header.0, &header.1)), Check::Refused(Refusal::Inactive)));
    }
    assert_eq!(world.server.calls(VALIDATIONS), 0);
    assert_eq!(world.ask(("x-api-key", key.reveal())).outcome, Err(Refusal::Inactive), "well-formed, and nobody's");
    assert_eq!(world.server.calls(VALIDATIONS), 1);
}

#[test]
fn a_key_is_not_kept_beyond_its_expiry_or_its_revocation() {
    let world = World::new();
    know(&world);
    // START is 2027-01-15T08:00:00Z.
    assert_eq!(world.ask(("x-api-key", "sk_user")).outcome.unwrap().organization_id.as_deref(), Some("org_2"));
    world.seconds_pass(5);
    assert_eq!(world.ask(("x-api-key", "sk_user")).outcome, Err(Refusal::Inactive));
    assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
    let now = world.guard.clock().now();
    world.guard.revocations().revoke(Revoked::Key("api_key_1"), now, now.plus(Duration::from_secs(60)));
    assert!(matches!(world.check(("x-api-key", "sk_org")), Check::Refused(Refusal::Revoked)));
}

#[test]
fn what_is_kept_is_bounded() {
    let world = World::with(|config, _| config["cache_entries"] = 10.into());
    know(&world);
    for n in 0..50 {
        assert_eq!(world.ask(("x-api-key", &format!("sk_guess_{n}"))).outcome, Err(Refusal::Inactive));
    }
    assert_eq!(world.guard.engine().api_keys.len(), 10);
}

/// Anybody can make up keys; only who was signed in has a session to renew.
#[test]
fn a_flood_of_made_up_keys_keeps_no_session_from_being_renewed() {
    let world = World::new();
    world.renew_for(300);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    world.server.on_path(VALIDATIONS, |_| {
        std::thread::sleep(Duration::from_millis(3));
        ok(&json!({ "api_key": null }))
    });
    let (tell, told) = mpsc::channel();
    for n in 0..1200 {
        let Check::Needs(need) = world.check(("x-api-key", &format!("sk_made_up_{n}"))) else { panic!("known") };
        let tell = tell.clone();
        world.guard.resolve(need, move |resolved| tell.send(resolved).unwrap());
    }
    let answer = world.ask_with_cookie(&world.expired_cookie());
    assert!(answer.outcome.is_ok(), "{answer:?}");
    let answered = told.try_iter().count();
    assert!(answered < 800, "the session waited for {answered}");
    drop(tell);
    assert_eq!(answered + told.iter().count(), 1200);
}

#[test]
fn without_a_key_of_our_own_or_with_a_bad_one_none_is_let_in() {
    let world = World::with(|config, _| drop(config.as_object_mut().unwrap().remove("api_key")));
    know(&world);
    assert_eq!(world.ask(("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
    assert!(world.server.asked().is_empty());
    let world = World::new();
    world.server.on_path(VALIDATIONS, |_| Does::Answer(401, r#"{"message":"Unauthorized"}"#.to_owned()));
    assert!(is_unavailable(&world.ask(("x-api-key", "sk_org"))));
}
