use super::*;

#[tokio::test]
async fn whatever_the_handler_answers_the_renewed_cookie_is_set_once_and_nothing_is_stored() {
    let world = World::new();
    world.renew_for(300);
    let cookie = world.expired_cookie();
    let app = Router::new()
        .route("/plain", any(|_: User| async { "in" }))
        .route("/public", any(|_: User| async { ([("cache-control", "public, max-age=600")], "in") }))
        .route("/cookie", any(|_: User| async { ([("set-cookie", "theme=dark"), ("cache-control", "public")], "in") }))
        .route("/missing", any(|_: User| async { StatusCode::NOT_FOUND }))
        .route("/broken", any(|_: User| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/moved", any(|_: User| async { (StatusCode::SEE_OTHER, [(LOCATION, "/")]) }))
        .route("/maybe", any(|_: Option<User>| async { "in" }))
        .route("/bad", any(|_: User, _: Json<Value>| async { "in" }))
        .merge(
            Router::new()
                .route("/admin", any(|| async { "in" }))
                .route_layer(require(Requirement { roles: names(&["admin"]), ..Requirement::default() })),
        )
        .merge(Router::new().route("/required", any(|| async { "in" })).route_layer(anybody()))
        .layer(guarded(world.guard.clone()));
    let mut renewed = None;
    for (path, status) in [
        ("/plain", 200),
        ("/public", 200),
        ("/cookie", 200),
        ("/missing", 404),
        ("/broken", 500),
        ("/moved", 303),
        ("/maybe", 200),
        ("/bad", 415),
        ("/admin", 403),
        ("/required", 200),
    ] {
        let answer = ask(&app, path, ("cookie", &cookie)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (status, Some("no-store")), "{path}");
        let sessions: Vec<_> = answer.cookies().into_iter().filter(|cookie| cookie.starts_with("wos_session")).map(str::to_owned).collect();
        assert_eq!(sessions.len(), 1, "{path}: {answer:?}");
        assert_eq!(answer.cookies().len(), if path == "/cookie" { 2 } else { 1 });
        assert_eq!(*renewed.get_or_insert_with(|| sessions[0].clone()), sessions[0], "{path}");
    }
    assert_eq!(world.server.calls(AUTHENTICATE), 1);
    let renewed = renewed.unwrap();
    assert!(renewed.contains("; HttpOnly") && renewed.contains("; SameSite=Lax"), "{renewed}");
    let answer = ask(&app, "/plain", ("cookie", renewed.split(';').next().unwrap())).await;
    assert_eq!((answer.status, answer.cookies().len()), (200, 0));
}

#[tokio::test]
async fn all_guards_of_a_request_share_one_renewal() {
    let world = World::new();
    world.renew_for(300);
    let inner = Router::new()
        .route("/", any(|_: User, _: Caller, _: Option<User>| async { "in" }))
        .route_layer(anybody())
        .route_layer(require(Requirement { kinds: Kinds::of(&[Kind::User]), ..Requirement::default() }));
    let once = inner.clone().layer(guarded(world.guard.clone()));
    let twice = once.clone().route_layer(anybody()).layer(guarded(world.guard.clone()));
    for (n, app) in [once, twice].iter().enumerate() {
        let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{}", 10 * n));
        let answer = ask(app, "/", ("cookie", &cookie)).await;
        assert_eq!(answer.status, 200);
        answer.new_session();
        assert_eq!(world.server.calls(AUTHENTICATE), n + 1);
    }
}

#[tokio::test]
async fn of_two_renewals_in_one_request_the_last_counts() {
    let world = World::new();
    world.renew_for(1);
    let clock = Arc::clone(&world.clock);
    let handler = move |_: User, request: Request| async move {
        clock.advance(Duration::from_secs(12));
        let (parts, _) = request.into_parts();
        authenticate(&parts, &Requirement::default(), None).await.map(|_| "in")
    };
    let app = Router::new().route("/", any(handler)).layer(guarded(world.guard.clone()));
    let answer = ask(&app, "/", ("cookie", &world.expired_cookie())).await;
    assert_eq!((answer.status, world.server.calls(AUTHENTICATE)), (200, 2));
    let last = answer.new_session();
    let settings = world.guard.config().session.as_ref().unwrap();
    let last = open_session(settings, last.split_once('=').unwrap().1, world.clock.now()).unwrap();
    assert_eq!(last.refresh_token.reveal(), "refresh_2");
}

#[tokio::test]
async fn a_refusal_after_a_renewal_does_not_lose_it() {
    let world = World::new();
    world.renew_for(300);
    let guard = world.guard.clone();
    let handler = move |_: User, request: Request| async move {
        guard.close();
        let (parts, _) = request.into_parts();
        authenticate(&parts, &Requirement { fresh: true, ..Requirement::default() }, None).await.map(|_| "in")
    };
    let app = Router::new().route("/", any(handler)).layer(guarded(world.guard.clone()));
    let answer = ask(&app, "/", ("cookie", &world.expired_cookie())).await;
    answer.assert_refused(503, "unavailable");
    answer.new_session();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_requests_at_once_with_one_expired_session_refresh_it_once() {
    let world = World::new();
    world.renew_for(300);
    let app = open_app(&world);
    let cookie = world.expired_cookie();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (app, cookie) = (app.clone(), cookie.clone());
        asked.spawn(async move { ask(&app, "/user", ("cookie", &cookie)).await });
    }
    let answers = asked.join_all().await;
    assert_eq!((answers.len(), world.server.calls(AUTHENTICATE), world.guard.stats().refreshes), (50, 1, 1));
    let fresh = answers[0].new_session();
    for answer in answers {
        assert_eq!((answer.status, answer.body.as_str(), answer.new_session()), (200, "user_1", fresh.clone()));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_no_renewal_with_it() {
    let world = World::new();
    let (let_go, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let renewed = json!({ "user": { "id": "user_1" }, "access_token": world.token(&world.key, 300), "refresh_token": "refresh_1" });
    world.server.on_path(AUTHENTICATE, move |_| {
        assert!(held.lock().unwrap().recv().is_err());
        ok(&renewed)
    });
    let app = open_app(&world);
    let cookie = world.expired_cookie();
    {
        let gone = ask(&app, "/user", ("cookie", &cookie));
        assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err(), "answered without the server");
    }
    drop(let_go);
    world.wait_for("the refresh", |stats| stats.refreshes == 1);
    let answer = ask(&app, "/user", ("cookie", &cookie)).await;
    assert_eq!(answer.status, 200);
    answer.new_session();
    assert_eq!(world.server.calls(AUTHENTICATE), 1);
}

#[tokio::test]
async fn a_handler_that_signs_out_or_in_has_the_last_word() {
    let world = World::new();
    world.renew_for(300);
    let app = Router::new()
        .route("/sign-out", any(|_: User| async { [("set-cookie", "wos_session=; Max-Age=0; Path=/")] }))
        .route("/other", any(|_: User| async { [("set-cookie", "wos_session_theme=dark")] }))
        .layer(guarded(world.guard.clone()));
    let answer = ask(&app, "/sign-out", ("cookie", &world.expired_cookie())).await;
    assert_eq!(answer.cookies(), ["wos_session=; Max-Age=0; Path=/"]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(ask(&app, "/other", ("cookie", &world.expired_cookie())).await.cookies().len(), 2);
}

#[tokio::test]
async fn an_ended_session_takes_its_cookie_with_it() {
    let world = World::new();
    end_sessions(&world);
    let answer = ask(&open_app(&world), "/user", ("cookie", &world.expired_cookie())).await;
    answer.assert_refused(401, "session_ended");
    let [cookie] = answer.cookies()[..] else { panic!("{answer:?}") };
    assert!(cookie.starts_with("wos_session=;") && cookie.contains("Max-Age=0"), "{cookie}");
}

#[tokio::test]
async fn a_session_too_big_for_one_cookie_is_set_in_pieces() {
    let world = World::new();
    let token = token_with(&world, &world.key, json!({ "permissions": (0..300).map(|n| format!("permission:{n}")).collect::<Vec<_>>() }));
    let body = json!({ "user": { "id": "user_1" }, "access_token": token, "refresh_token": "refresh_1" });
    world.server.on_path(AUTHENTICATE, move |_| ok(&body));
    let app = open_app(&world);
    let answer = ask(&app, "/user", ("cookie", &world.expired_cookie())).await;
    assert!(answer.status == 200 && answer.cookies().len() > 1, "{answer:?}");
    assert!(answer.cookies().iter().all(|cookie| cookie.len() <= 4096));
    let back = answer.cookies().iter().map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>().join("; ");
    assert_eq!(ask(&app, "/user", ("cookie", &back)).await.status, 200);
}
