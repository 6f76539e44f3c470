use super::*;

fn fresh() -> Requirement {
    Requirement { fresh: true, ..Requirement::default() }
}

/// Two pages; the session is on the second.
fn list(world: &World, status: &'static str) {
    world.server.on_path(SESSIONS, move |asked: &Asked| {
        ok(&match asked.query.contains("after=session_0") {
            false => {
                json!({ "data": [{ "id": "session_0", "status": "active" }], "list_metadata": { "before": null, "after": "session_0" } })
            }
            true => json!({ "data": [{ "id": "session_1", "status": status }], "list_metadata": { "before": null, "after": null } }),
        })
    });
}

#[test]
fn a_session_is_looked_for_on_every_page_and_every_time() {
    let world = World::new();
    list(&world, "active");
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    for n in 1..=3 {
        assert!(world.ask_as(&fresh(), ("cookie", &cookie)).outcome.is_ok());
        assert_eq!(world.server.calls(SESSIONS), 2 * n);
    }
    assert!(world.ask(("cookie", &cookie)).outcome.is_ok());
    assert_eq!(world.server.calls(SESSIONS), 6);
    let asked = world.server.asked().into_iter().find(|asked| asked.path == SESSIONS).unwrap();
    assert_eq!(asked.authorization.as_deref(), Some("Bearer sk_ours"));
}

#[test]
fn a_session_that_is_not_listed_has_ended_and_its_cookie_goes() {
    let world = World::new();
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    list(&world, "revoked");
    let answer = world.ask_as(&fresh(), ("cookie", &cookie));
    assert_eq!(answer.outcome, Err(Refusal::SessionEnded));
    assert!(clears_the_cookie(&answer));
    world.server.on_path(SESSIONS, |_| ok(&json!({ "data": [], "list_metadata": {} })));
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let answer = world.ask_as(&fresh(), ("authorization", &bearer));
    assert_eq!((answer.outcome, answer.cookies.len()), (Err(Refusal::SessionEnded), 0));
}

#[test]
fn what_is_fresh_of_one_caller_is_not_of_another() {
    let world = World::new();
    let caller = |change: fn(&mut Principal)| {
        let mut principal = Principal::new(Kind::User, Via::Session, "https://nobody.example", "user_1", START);
        principal.session_id = Some("session_1".to_owned());
        principal.token_id = Some("a".to_owned());
        change(&mut principal);
        principal
    };
    let fresh = |principal| world.guard.engine().freshen(&Arc::new(principal), &String::new().into());
    let of_session = fresh(caller(|_| {}));
    assert!(of_session.is_about(&caller(|_| {})));
    assert!(of_session.is_about(&caller(|renewed| renewed.token_id = Some("b".to_owned()))));
    let others: [fn(&mut Principal); 5] = [
        |other| other.session_id = Some("session_2".to_owned()),
        |other| other.session_id = None,
        |other| other.subject = "user_2".to_owned(),
        |other| other.issuer = "https://else.example".to_owned(),
        |other| other.via = Via::Bearer,
    ];
    assert!(others.iter().all(|change| !of_session.is_about(&caller(*change))));
    let of_token = fresh(caller(|principal| principal.session_id = None));
    assert!(of_token.is_about(&caller(|principal| principal.session_id = None)));
    assert!(!of_token.is_about(&caller(|other| (other.session_id, other.token_id) = (None, Some("b".to_owned())))));
}

#[test]
fn a_known_caller_is_looked_up_and_nothing_is_renewed() {
    let world = World::new();
    let look_up = |principal: &Arc<Principal>| {
        let (tell, told) = mpsc::channel();
        world.guard.look_up(Arc::clone(principal), move |resolved| tell.send(resolved).unwrap());
        let resolved: Resolved = told.recv_timeout(Duration::from_secs(15)).unwrap();
        assert!(resolved.cookies.is_empty());
        resolved.outcome.map(|_| ())
    };
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let principal = world.ask(("authorization", &bearer)).outcome.unwrap();
    list(&world, "active");
    world.seconds_pass(1000);
    assert_eq!((look_up(&principal), world.server.calls(SESSIONS)), (Ok(()), 2));
    list(&world, "revoked");
    assert_eq!(look_up(&principal), Err(Refusal::SessionEnded));
    let asked = world.server.asked().len();
    let stranger = Arc::new(Principal { issuer: "https://idp.example".to_owned(), ..(*principal).clone() });
    assert_eq!(look_up(&stranger), Ok(()));
    let now = world.guard.clock().now();
    world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(60)));
    assert_eq!((look_up(&principal), look_up(&stranger)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
    assert_eq!((world.server.asked().len(), world.server.calls(AUTHENTICATE)), (asked, 0));
}

#[test]
fn an_expired_session_is_renewed_and_then_looked_for() {
    let world = World::new();
    world.renew_for(300);
    list(&world, "active");
    let answer = world.ask_as(&fresh(), ("cookie", &world.expired_cookie()));
    assert!(answer.outcome.is_ok() && answer.cookies.len() == 1, "{answer:?}");
    assert_eq!((world.server.calls(AUTHENTICATE), world.server.calls(SESSIONS)), (1, 2));
}

#[test]
fn nothing_is_fresh_while_nobody_can_be_asked() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    world.server.on_path(SESSIONS, |_| Does::Answer(500, String::new()));
    assert!(is_unavailable(&world.ask_as(&fresh(), ("authorization", &bearer))));
    let world = World::with(|config, _| drop(config.as_object_mut().unwrap().remove("api_key")));
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    assert!(is_unavailable(&world.ask_as(&fresh(), ("authorization", &bearer))));
    assert_eq!(world.server.calls(SESSIONS), 0);
}

#[test]
fn an_api_key_is_asked_about_every_time() {
    let world = World::new();
    let key = json!({ "api_key": { "id": "api_key_1", "owner": { "type": "organization", "id": "org_1" } } });
    world.server.on_path(VALIDATIONS, move |_| ok(&key));
    assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
    world.server.on_path(VALIDATIONS, |_| ok(&json!({ "api_key": null })));
    assert!(world.ask(("x-api-key", "sk_org")).outcome.is_ok());
    assert_eq!(world.ask_as(&fresh(), ("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
    assert_eq!(world.ask(("x-api-key", "sk_org")).outcome, Err(Refusal::Inactive));
}
