//! Another organization for a session.

use std::sync::Mutex;

use super::*;

const OURS: (&str, &str) = ("origin", "https://app.example");

/// The server keeps one session of `user_1`, who is a member of `org_a` and `org_b`: `refresh_n` gets `refresh_<n+1>` for the organization
/// asked for, or the one it is in; a used one gets the same answer again. Gives what it was asked to switch to.
fn serve(world: &World) -> Arc<Mutex<Vec<Option<String>>>> {
    struct Session {
        next: u32,
        organization: String,
        given: Option<(u32, Value)>,
    }
    let wishes = Arc::new(Mutex::new(Vec::new()));
    let session = Mutex::new(Session { next: 0, organization: "org_a".to_owned(), given: None });
    let (base, clock, key, heard) = (world.server.url(), Arc::clone(&world.clock), Arc::clone(&world.key), Arc::clone(&wishes));
    world.server.on_path(AUTHENTICATE, move |asked| {
        let body = asked.json();
        let (wish, mut session) = (body["organization_id"].as_str().map(str::to_owned), session.lock().unwrap());
        heard.lock().unwrap().push(wish.clone());
        let n: u32 = body["refresh_token"].as_str().unwrap().strip_prefix("refresh_").unwrap().parse().unwrap();
        if let Some((old, answer)) = &session.given
            && *old == n
            && wish.is_none()
        {
            return ok(answer);
        }
        if n != session.next {
            return Does::Answer(400, json!({"error": "invalid_grant"}).to_string());
        }
        match wish.as_deref() {
            Some("org_a" | "org_b") | None => {}
            Some("org_sso") => return Does::Answer(400, json!({"error": "sso_required"}).to_string()),
            Some(_) => return Does::Answer(400, json!({"error": "organization_membership_not_found"}).to_string()),
        }
        session.organization = wish.unwrap_or_else(|| session.organization.clone());
        session.next += 1;
        let answer = answer(token_for(&base, &clock, &key, 300, &session.organization), &format!("refresh_{}", session.next));
        session.given = Some((n, answer.clone()));
        ok(&answer)
    });
    wishes
}

fn token_for(base: &str, clock: &ManualClock, key: &SigningKey, seconds: i64, organization: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = gatewright_base::Clock::now(clock).seconds();
    let claims = json!({
        "iss": format!("{base}/user_management/client_1"), "sub": "user_1", "sid": "session_1", "org_id": organization,
        "iat": now.min(now + seconds), "exp": now + seconds, "jti": COUNT.fetch_add(1, Ordering::SeqCst).to_string(),
    });
    key.sign_jwt(&claims).unwrap()
}

fn cookie_in(world: &World, seconds: i64) -> String {
    world.cookie(token_for(&world.server.url(), &world.clock, &world.key, seconds, "org_a"), "refresh_0")
}

fn switch(world: &World, headers: &[(&str, &str)], organization: &str) -> Resolved {
    let (tell, told) = mpsc::channel();
    world.guard.switch_organization(&facts("POST", headers), organization, move |resolved| tell.send(resolved).unwrap());
    let resolved = told.recv_timeout(Duration::from_secs(15)).expect("an answer in time");
    assert!(told.recv_timeout(Duration::from_millis(1)).is_err(), "answered twice");
    resolved
}

fn organization(resolved: &Resolved) -> Option<&str> {
    resolved.outcome.as_ref().unwrap().organization_id.as_deref()
}

#[test]
fn a_session_is_switched_and_its_cookie_acts_for_the_other_organization() {
    let world = World::new();
    let wishes = serve(&world);
    let old = cookie_in(&world, 300);
    let switched = switch(&world, &[("cookie", &old), OURS], "org_b");
    assert_eq!(organization(&switched), Some("org_b"));
    let new = new_cookie(&switched);
    assert_eq!(organization(&world.ask_with_cookie(&new)), Some("org_b"));
    // The old access token stays what it is for as long as it lives; then the session is what it became.
    let still = world.ask_with_cookie(&old);
    assert_eq!((organization(&still), still.cookies.len()), (Some("org_a"), 0));
    assert_eq!(*wishes.lock().unwrap(), [Some("org_b".to_owned())]);
    let back = switch(&world, &[("cookie", &new), OURS], "org_a");
    assert_eq!(organization(&world.ask_with_cookie(&new_cookie(&back))), Some("org_a"));
}

#[test]
fn an_expired_session_is_renewed_and_then_switched() {
    let world = World::new();
    let wishes = serve(&world);
    let old = cookie_in(&world, -60);
    let switched = switch(&world, &[("cookie", &old), OURS], "org_b");
    assert_eq!(organization(&switched), Some("org_b"));
    assert_eq!(*wishes.lock().unwrap(), [None, Some("org_b".to_owned())]);
    // Whoever comes late with the old cookie is given what became of it.
    let late = world.ask_with_cookie(&old);
    assert_eq!(organization(&late), Some("org_b"));
    assert_eq!(organization(&world.ask_with_cookie(&new_cookie(&late))), Some("org_b"));
    assert_eq!(wishes.lock().unwrap().len(), 2);
}

#[test]
fn an_old_cookie_that_switches_again_goes_on_from_its_successor() {
    let world = World::new();
    let wishes = serve(&world);
    let old = cookie_in(&world, 300);
    for wanted in ["org_b", "org_a", "org_b"] {
        assert_eq!(organization(&switch(&world, &[("cookie", &old), OURS], wanted)), Some(wanted));
    }
    assert_eq!(wishes.lock().unwrap().len(), 3);
}

#[test]
fn a_refresh_beside_a_switch_never_hands_out_the_organization_that_was_left() {
    let world = World::new();
    let wishes = serve(&world);
    let old = cookie_in(&world, 300);
    assert_eq!(organization(&world.ask_with_cookie(&old)), Some("org_a"));
    let start = Barrier::new(24);
    std::thread::scope(|scope| {
        let (world, old, start) = (&world, &old, &start);
        for n in 0..24 {
            scope.spawn(move || {
                start.wait();
                if n % 2 == 0 {
                    assert_eq!(organization(&switch(world, &[("cookie", old), OURS], "org_b")), Some("org_b"));
                } else {
                    world.ask_with_cookie(old).outcome.unwrap();
                }
            });
        }
    });
    let asked = wishes.lock().unwrap().len();
    assert!(wishes.lock().unwrap().iter().all(|wish| wish.as_deref() == Some("org_b")));
    world.seconds_pass(29);
    let later = world.cookie(token_for(&world.server.url(), &world.clock, &world.key, -60, "org_a"), "refresh_0");
    assert_eq!(organization(&world.ask_with_cookie(&later)), Some("org_b"), "the same session, expired");
    assert_eq!(wishes.lock().unwrap().len(), asked, "it was known");
}

#[test]
fn an_organization_that_is_not_the_users_changes_nothing() {
    let world = World::new();
    serve(&world);
    let old = cookie_in(&world, 300);
    let long = "o".repeat(129);
    for stranger in ["org_c", "", "org b", "org_\u{e9}", long.as_str()] {
        let refused = switch(&world, &[("cookie", &old), OURS], stranger);
        assert_eq!((refused.outcome.unwrap_err(), refused.cookies.len()), (Refusal::NotAMember, 0), "{stranger}");
    }
    let refused = switch(&world, &[("cookie", &old), OURS], "org_sso");
    assert_eq!((refused.outcome.unwrap_err(), refused.cookies.len()), (Refusal::StepUp { mfa: false, max_age: None }, 0));
    assert_eq!(organization(&world.ask_with_cookie(&old)), Some("org_a"));
    assert_eq!(organization(&switch(&world, &[("cookie", &old), OURS], "org_b")), Some("org_b"), "it goes on");
    // Renewed on the way, the session keeps what it became.
    world.seconds_pass(400);
    let refused = switch(&world, &[("cookie", &old), OURS], "org_c");
    assert_eq!(refused.outcome.unwrap_err(), Refusal::SessionEnded, "the old cookie is long superseded");
}

#[test]
fn a_refused_switch_keeps_the_session_that_was_renewed_on_the_way() {
    let world = World::new();
    serve(&world);
    let refused = switch(&world, &[("cookie", &cookie_in(&world, -60)), OURS], "org_c");
    assert_eq!(*refused.outcome.as_ref().unwrap_err(), Refusal::NotAMember);
    assert_eq!(organization(&world.ask_with_cookie(&new_cookie(&refused))), Some("org_a"));
}

#[test]
fn another_sites_request_switches_nothing_and_nobody_is_asked() {
    let world = World::new();
    let wishes = serve(&world);
    let old = cookie_in(&world, 300);
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("x-nothing", "")]
    {
        let refused = switch(&world, &[("cookie", &old), (name, value)], "org_b");
        assert_eq!((refused.outcome.unwrap_err(), refused.cookies.len()), (Refusal::CrossSite, 0), "{name}");
    }
    assert!(wishes.lock().unwrap().is_empty());
}

#[test]
fn who_has_no_session_in_a_cookie_has_nothing_to_switch() {
    let world = World::new();
    let wishes = serve(&world);
    assert_eq!(switch(&world, &[OURS], "org_b").outcome.unwrap_err(), Refusal::NoCredential);
    let bearer = format!("Bearer {}", world.token(&world.key, 300));
    let refused = switch(&world, &[("authorization", &bearer), OURS], "org_b");
    assert!(matches!(refused.outcome, Err(Refusal::InvalidRequest(_))));
    assert!(wishes.lock().unwrap().is_empty());
}

#[test]
fn an_ended_session_is_not_switched_and_its_cookie_goes() {
    let world = World::new();
    world.server.on_path(AUTHENTICATE, |_| Does::Answer(400, json!({"error": "invalid_grant"}).to_string()));
    let refused = switch(&world, &[("cookie", &cookie_in(&world, 300)), OURS], "org_b");
    assert_eq!(*refused.outcome.as_ref().unwrap_err(), Refusal::SessionEnded);
    assert!(clears_the_cookie(&refused));
}

#[test]
fn a_server_that_is_away_or_gives_another_organization_leaves_the_session_as_it_was() {
    let world = World::new();
    let old = cookie_in(&world, 300);
    for (status, body) in
        [(500, json!({})), (429, json!({})), (401, json!({"error": "invalid_client"})), (400, json!({"error": "invalid_request"}))]
    {
        world.server.on_path(AUTHENTICATE, move |_| Does::Answer(status, body.to_string()));
        let refused = switch(&world, &[("cookie", &old), OURS], "org_b");
        assert!(is_unavailable(&refused) && refused.cookies.is_empty(), "{status}");
        assert_eq!(organization(&world.ask_with_cookie(&old)), Some("org_a"));
    }
    let (base, clock, key) = (world.server.url(), Arc::clone(&world.clock), Arc::clone(&world.key));
    world.server.on_path(AUTHENTICATE, move |_| ok(&answer(token_for(&base, &clock, &key, 300, "org_a"), "refresh_1")));
    assert!(is_unavailable(&switch(&world, &[("cookie", &old), OURS], "org_b")), "taken for a switch");
    // Somebody else's token is never taken, whatever organization it is for.
    let world = World::new();
    let stranger = world.token_of(&world.key, 300, "user_2", "session_2");
    world.server.on_path(AUTHENTICATE, move |_| ok(&answer(stranger.clone(), "refresh_1")));
    let refused = switch(&world, &[("cookie", &cookie_in(&world, 300)), OURS], "org_b");
    assert_eq!(refused.outcome.unwrap_err(), Refusal::InvalidSession);
}
