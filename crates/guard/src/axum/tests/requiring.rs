use super::*;

#[tokio::test]
async fn what_is_required_is_checked_before_the_handler() {
    let world = World::new();
    let roles = |roles: &[&str]| Requirement { roles: names(roles), ..Requirement::default() };
    let permissions = |permissions: &[&str]| Requirement { permissions: names(permissions), ..Requirement::default() };
    let scopes = |scopes: &[&str]| Requirement { scopes: names(scopes), ..Requirement::default() };
    let claims = json!({ "roles": ["member"], "permissions": ["items:read", "items:write"], "scope": "a b" });
    let bearer = bearer_with(&world, claims.clone());
    let cookie = world.cookie(token_with(&world, &world.key, claims), "refresh_0");
    for (requirement, refusal) in [
        (roles(&["member"]), None),
        (roles(&["admin", "member"]), None),
        (roles(&["admin"]), Some("missing_role")),
        (permissions(&["items:read", "items:write"]), None),
        (permissions(&["items:read", "items:delete"]), Some("missing_permission")),
        (scopes(&["a"]), None),
        (scopes(&["c"]), Some("missing_scope")),
        (Requirement { kinds: Kinds::of(&[Kind::Machine]), ..Requirement::default() }, Some("wrong_kind")),
        (Requirement { organization: true, ..Requirement::default() }, Some("no_organization")),
    ] {
        let app = behind(&world, "/admin", require(requirement.clone()));
        for header in [("authorization", bearer.as_str()), ("cookie", &cookie)] {
            let answer = ask(&app, "/admin", header).await;
            match refusal {
                None => assert_eq!((answer.status, answer.body.as_str()), (200, "in"), "{requirement:?}"),
                Some(code) => answer.assert_refused(403, code),
            }
        }
        send(&app, "GET", "/admin", &[]).await.assert_refused(401, "no_credential");
    }
}

#[tokio::test]
async fn every_method_and_every_route_behind_it_is_checked() {
    let world = World::new();
    let app = Router::new()
        .route("/one", any(|| async { inside("in") }))
        .nest("/two", Router::new().route("/{id}", any(|| async { inside("in") })))
        .route_layer(anybody())
        .route("/health", get(|| async { "well" }))
        .layer(guarded(world.guard.clone()));
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
        for path in ["/one", "/two/3"] {
            let answer = send(&app, method, path, &[]).await;
            assert!(answer.status == 401 && !answer.headers.contains_key("x-inside"), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!((send(&app, "GET", "/health", &[]).await.status, send(&app, "GET", "/none", &[]).await.status), (200, 404));
}

#[tokio::test]
async fn who_is_refused_sets_nothing_in_motion() {
    let world = World::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() };
    let app = Router::new().route("/", any(handler)).route_layer(anybody()).layer(guarded(world.guard.clone()));
    for (authorization, after) in [("Bearer a.b.c", 0), ("Basic eDp5", 0), (bearer(&world).as_str(), 1)] {
        ask(&app, "/", ("authorization", authorization)).await;
        assert_eq!(runs.load(Ordering::SeqCst), after, "{authorization}");
    }
}

#[tokio::test]
async fn the_body_of_the_request_reaches_the_handler() {
    let world = World::new();
    let app = Router::new()
        .route("/echo", any(|body: String| async move { inside(body) }))
        .route_layer(anybody())
        .layer(guarded(world.guard.clone()));
    let answer = send_body(&app, "POST", "/echo", &[("authorization", &bearer(&world))], Body::from("words")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "words"));
}

/// The handler says which organization it would have worked for.
fn of_organizations(world: &World) -> Router {
    let rule = || anybody().organization_in_path("org_id");
    let last = |Path(all): Path<HashMap<String, String>>| async move { inside(all["org_id"].clone()) };
    Router::new()
        .route("/orgs/{org_id}/report", any(|Path(id): Path<String>| async move { inside(id) }))
        .route("/orgs/{org_id}/copies/{org_id}", any(last))
        .nest("/nested/{org_id}", Router::new().route("/of/{org_id}", any(last)))
        .nest_service("/served/{org_id}", Router::new().route("/of/{org_id}", any(last)).route_layer(rule()))
        .route("/files/{*org_id}", any(last))
        .route("/unbound/{id}", any(|| async { inside("any") }))
        .route("/bare", any(|| async { inside("any") }))
        .route_layer(rule())
        .layer(guarded(world.guard.clone()))
}

#[tokio::test]
async fn row_18_only_the_callers_own_organization_is_in_the_path() {
    let world = World::new();
    know_api_key(&world);
    let app = of_organizations(&world);
    let claims = json!({ "org_id": "org_a" });
    let bearer = bearer_with(&world, claims.clone());
    let cookie = world.cookie(token_with(&world, &world.key, claims), "refresh_0");
    for header in [("authorization", bearer.as_str()), ("cookie", &cookie), ("x-api-key", "sk_org")] {
        for path in ["/orgs/org_a/report", "/orgs/org%5Fa/report", "/orgs/%6f%72g_a/report?org_id=org_b", "/files/org_a"] {
            let answer = ask(&app, path, header).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "org_a"), "{path}");
        }
        for path in [
            "/orgs/org_b/report",
            "/orgs/org_b/report?org_id=org_a",
            "/orgs/ORG_A/report",
            "/orgs/org_a%20/report",
            "/orgs/org_a%00/report",
            "/orgs/org%255Fa/report",
            "/orgs/org_a%2F..%2Forg_b/report",
            "/orgs/org_a;org_b/report",
            "/orgs/%ff/report",
            "/files/org_a/../org_b",
        ] {
            ask(&app, path, header).await.assert_refused(403, "wrong_organization");
        }
    }
    send(&app, "GET", "/orgs/org_a/report", &[]).await.assert_refused(401, "no_credential");
    let without = super::bearer(&world);
    ask(&app, "/orgs/org_a/report", ("authorization", &without)).await.assert_refused(403, "no_organization");
    let empty = bearer_with(&world, json!({ "org_id": "" }));
    for path in ["/orgs//report", "/bare", "/unbound/org_a"] {
        let answer = ask(&app, path, ("authorization", &empty)).await;
        assert!(answer.status >= 400 && !answer.headers.contains_key("x-inside"), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn of_an_organization_the_rest_is_required_too() {
    let world = World::new();
    let admin = Requirement { roles: names(&["admin"]), ..Requirement::default() };
    let app = behind(&world, "/orgs/{org_id}", require(admin).organization_in_path("org_id"));
    for (role, status) in [("admin", 200), ("member", 403)] {
        let bearer = bearer_with(&world, json!({ "org_id": "org_a", "role": role }));
        assert_eq!(ask(&app, "/orgs/org_a", ("authorization", &bearer)).await.status, status);
    }
}

#[tokio::test]
async fn row_18_a_parameter_that_comes_twice_must_be_the_same_twice() {
    let world = World::new();
    let app = of_organizations(&world);
    let bearer = bearer_with(&world, json!({ "org_id": "org_a" }));
    let header = ("authorization", bearer.as_str());
    for (first, second) in [("/orgs", "/copies"), ("/nested", "/of"), ("/served", "/of")] {
        let path = |one, other| format!("{first}/{one}{second}/{other}");
        assert_eq!(ask(&app, &path("org_a", "org_a"), header).await.body, "org_a");
        for (one, other) in [("org_a", "org_b"), ("org_b", "org_a"), ("org_b", "org_b"), ("org_a", "org%5Fb"), ("%ff", "org_a")] {
            ask(&app, &path(one, other), header).await.assert_refused(403, "wrong_organization");
        }
    }
}

#[tokio::test]
async fn row_18_a_route_without_the_parameter_is_nobodys_and_the_log_says_so() {
    log::keep_lines();
    let world = World::new();
    let rule = || anybody().organization_in_path("org_id");
    let app = behind(&world, "/of/{tenant}", rule()).merge(behind(&world, "/of", rule())).merge(behind(&world, "/at/{org_id}", rule()));
    let bearer = bearer_with(&world, json!({ "org_id": "org_a" }));
    for (path, route) in [("/of/org_a", "/of/{tenant}"), ("/of", "/of")] {
        ask(&app, path, ("authorization", &bearer)).await.assert_refused(403, "wrong_organization");
        let lines = log::lines(Level::ERROR, &format!("route=\"{route}\""));
        assert!(lines.len() == 1 && lines[0].contains("parameter=\"org_id\""), "{lines:?}");
    }
    // What a caller can bring about is not for this log.
    for path in ["/at/org_b", "/at/%ff"] {
        ask(&app, path, ("authorization", &bearer)).await.assert_refused(403, "wrong_organization");
    }
    assert_eq!(log::lines(Level::ERROR, "/at/"), Vec::<String>::new());
}
