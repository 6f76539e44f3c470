use super::*;
use crate::feed::DeniedRequest;

const DENIALS: &str = "/guard/denied_requests";

fn deny(world: &World, headers: &[(&str, &str)], reason: &str, path: &str) {
    let denied = DeniedRequest {
        reason,
        status: if reason == "cross_site" || reason.starts_with("missing") { 403 } else { 401 },
        path,
        client_ip: Some("192.0.2.1"),
        user_agent: Some("Firefox"),
    };
    world.guard.report_denied(&facts("GET", headers), &denied);
}

/// What the server was told, all batches together.
fn told(world: &World) -> Vec<Value> {
    let bodies = world.server.asked().into_iter().filter(|asked| asked.path == DENIALS).map(|asked| asked.json());
    bodies.flat_map(|body| body["denied_requests"].as_array().unwrap().clone()).collect()
}

fn accept(world: &World) {
    world.server.on_path(DENIALS, |asked| {
        Does::Answer(202, json!({ "accepted": asked.json()["denied_requests"].as_array().unwrap().len() }).to_string())
    });
}

#[test]
fn refused_requests_are_told_in_batches_and_equal_ones_together() {
    let world = World::new();
    accept(&world);
    let token = world.token(&world.key, 300);
    let bearer = format!("Bearer {token}");
    let known = [("authorization", bearer.as_str())];
    assert!(world.ask(known[0]).outcome.is_ok());
    for _ in 0..5 {
        deny(&world, &known, "missing_permission", "/notes/{id}?token=secret_of_the_query");
    }
    deny(&world, &[], "no_credential", "/notes");
    deny(&world, &[("authorization", "Bearer made.up.token")], "invalid_token", "/notes");
    world.wait_for("all of them", |stats| stats.denials_reported == 7);
    assert_eq!(world.server.calls(DENIALS), 1);
    let call = world.server.asked().into_iter().find(|asked| asked.path == DENIALS).unwrap();
    assert_eq!(call.authorization.as_deref(), Some("Bearer sk_ours"));
    let guard = &call.json()["guard"];
    assert_eq!((guard["name"].as_str(), guard["instance"].as_str().map(str::len)), (Some("app.example"), Some(16)));
    let mut told = told(&world);
    told.sort_by_key(|one| one["reason"].as_str().unwrap().to_owned());
    let base = json!({ "occurred_at": "2027-01-15T08:00:00.000Z", "method": "GET", "client_ip": "192.0.2.1", "user_agent": "Firefox" });
    let with = |more: Value| {
        let mut one = base.clone();
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let issuer = format!("{}/user_management/client_1", world.server.url());
    assert_eq!(
        told,
        [
            with(json!({ "reason": "invalid_token", "path": "/notes", "status": 401, "count": 1 })),
            with(
                json!({ "reason": "missing_permission", "path": "/notes/{id}", "status": 403, "count": 5, "user_id": "user_1", "session_id": "session_1", "issuer": issuer })
            ),
            with(json!({ "reason": "no_credential", "path": "/notes", "status": 401, "count": 1 })),
        ]
    );
    assert!(!call.body.contains(&token) && !call.body.contains("made.up") && !call.body.contains("secret_of_the_query"));
}

#[test]
fn whose_cookie_was_refused_its_seal_tells_and_nobody_believes_a_forged_one() {
    let world = World::new();
    accept(&world);
    let expired = world.expired_cookie();
    deny(&world, &[("cookie", &expired)], "session_ended", "/");
    let (name, sealed) = expired.split_once('=').unwrap();
    let forged = format!("{name}={}", sealed.replace(|c: char| c.is_ascii_digit(), "x"));
    deny(&world, &[("cookie", &forged)], "invalid_session", "/");
    world.wait_for("both", |stats| stats.denials_reported == 2);
    let told = told(&world);
    let of = |reason: &str| told.iter().find(|one| one["reason"] == reason).unwrap().clone();
    assert_eq!((of("session_ended")["user_id"].as_str(), of("session_ended")["session_id"].as_str()), (Some("user_1"), Some("session_1")));
    assert_eq!(of("invalid_session").get("user_id"), None);
    assert!(!Value::from(told).to_string().contains(sealed));
}

#[test]
fn a_flood_of_refusals_waits_for_nobody_and_what_does_not_fit_is_counted() {
    let world = World::new();
    world.server.on_path(DENIALS, |_| Does::Hang);
    let began = Instant::now();
    for n in 0..5_000 {
        deny(&world, &[], "no_credential", &format!("/{n}"));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.wait_for("the rest is dropped", |stats| stats.denials_dropped == 4_000);
    accept(&world);
    world.server.release();
    world.wait_for("what fitted is told", |stats| stats.denials_reported == 1_000);
    assert!(told(&world).len() >= 1_000);
    assert!(world.server.asked().iter().filter(|asked| asked.path == DENIALS).all(|asked| asked.body.len() < 256 * 1024));
}

#[test]
fn a_server_that_wants_none_is_left_alone_and_nothing_is_told_where_it_is_off() {
    let world = World::new();
    deny(&world, &[], "no_credential", "/");
    world.wait_for("one is dropped", |stats| stats.denials_dropped == 1);
    for _ in 0..10 {
        deny(&world, &[], "no_credential", "/");
    }
    world.wait_for("all are", |stats| stats.denials_dropped == 11);
    assert_eq!(world.server.calls(DENIALS), 1);

    for change in [json!({ "report_denied_requests": false }), json!({ "api_key": null })] {
        let world = World::with(|config, _| config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone()));
        accept(&world);
        deny(&world, &[], "no_credential", "/");
        std::thread::sleep(Duration::from_millis(2_300));
        assert_eq!((world.server.calls(DENIALS), world.guard.stats().denials_reported), (0, 0), "{change}");
    }
    // Nor of what is no refusal of a caller.
    let world = World::new();
    accept(&world);
    for status in [400, 503] {
        let denied = DeniedRequest { reason: "unavailable", status, path: "/", client_ip: None, user_agent: None };
        world.guard.report_denied(&facts("GET", &[]), &denied);
    }
    std::thread::sleep(Duration::from_millis(2_300));
    assert_eq!(world.server.calls(DENIALS), 0);
}
