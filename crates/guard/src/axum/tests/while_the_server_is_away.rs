use super::*;

#[tokio::test]
async fn who_cannot_be_checked_is_told_to_come_again_and_keeps_the_session() {
    let world = World::new();
    let (cookie, expired, bearer) = (valid_cookie(&world), world.expired_cookie(), bearer(&world));
    world.server.stop();
    // Not a single key is known.
    for header in [("cookie", cookie.as_str()), ("cookie", &expired), ("authorization", &bearer), ("x-api-key", "sk_org")] {
        let app = open_app(&world).merge(behind(&world, "/required", anybody()));
        for path in ["/user", "/maybe/user", "/required"] {
            let answer = ask(&app, path, header).await;
            answer.assert_refused(503, "unavailable");
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            assert_eq!((answer.header("www-authenticate"), answer.cookies().len()), (None, 0));
        }
    }
    assert_eq!(send(&open_app(&world), "GET", "/maybe/user", &[]).await.body, "nobody");
}

#[tokio::test]
async fn who_can_be_checked_goes_on() {
    let world = World::new();
    let app = open_app(&world);
    assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
    let (cookie, expired) = (valid_cookie(&world), world.expired_cookie());
    world.server.stop();
    world.seconds_pass(100);
    for _ in 0..3 {
        assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
        assert_eq!(ask(&app, "/user", ("cookie", &cookie)).await.status, 200);
        let answer = ask(&app, "/user", ("cookie", &expired)).await;
        answer.assert_refused(503, "unavailable");
        assert_eq!(answer.cookies().len(), 0);
    }
}

#[tokio::test]
async fn garbage_from_the_server_is_never_an_error_of_ours() {
    let garbage: [fn() -> Does; 6] = [
        || Does::Answer(500, String::new()),
        || Does::Answer(200, "<html>".to_owned()),
        || Does::Answer(200, "{}".to_owned()),
        || Does::Answer(404, "{}".to_owned()),
        || Does::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        || Does::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"user\":".to_vec()),
    ];
    for does in garbage {
        let world = World::new();
        let app = open_app(&world);
        assert!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status == 200);
        let unknown = format!("Bearer {}", token_with(&world, &new_key("key_2"), json!({})));
        for path in [AUTHENTICATE, VALIDATIONS, JWKS, "/oauth2/jwks"] {
            world.server.on_path(path, move |_| does());
        }
        world.seconds_pass(300);
        ask(&app, "/user", ("cookie", &world.expired_cookie())).await.assert_refused(503, "unavailable");
        ask(&app, "/caller", ("x-api-key", "sk_org")).await.assert_refused(503, "unavailable");
        ask(&app, "/user", ("authorization", &unknown)).await.assert_refused(503, "unavailable");
        assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
    }
}

#[tokio::test]
async fn a_guard_that_closes_leaves_nobody_waiting_and_a_hanging_call_holds_nobody_else_up() {
    let world = World::new();
    world.server.on_path(AUTHENTICATE, |_| Does::Hang);
    let app = open_app(&world);
    assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
    let (waiting, cookie) = (app.clone(), world.expired_cookie());
    let waiting = tokio::spawn(async move { ask(&waiting, "/user", ("cookie", &cookie)).await });
    while world.server.calls(AUTHENTICATE) == 0 {
        tokio::task::yield_now().await;
    }
    // On the one thread that the waiting request is on too.
    assert_eq!(ask(&app, "/user", ("authorization", &bearer(&world))).await.status, 200);
    assert!(!waiting.is_finished());
    world.guard.close();
    waiting.await.unwrap().assert_refused(503, "unavailable");
}
