use super::*;

fn app(world: &World) -> Router {
    Router::new()
        .route("/required", any(|| async { inside("in") }))
        .route_layer(anybody())
        .merge(extractors())
        .layer(guarded(world.guard.clone()))
}

const PATHS: [&str; 5] = ["/required", "/user", "/caller", "/maybe/user", "/maybe/caller"];

#[tokio::test]
async fn row_6_a_post_of_another_site_with_the_session_cookie_is_refused() {
    let world = World::new();
    let app = app(&world);
    let cookie = valid_cookie(&world);
    let csrf = csrf_token(&world.guard.config().session.as_ref().unwrap().password, "session_1");
    let right = ("x-csrf-token", csrf.as_str());
    for (sent, is_ours) in [
        (&[][..], false),
        (&[FOREIGN_ORIGIN], false),
        (&[("origin", "null")], false),
        (&[("origin", "https://app.example.evil.example")], false),
        (&[("origin", "http://app.example")], false),
        (&[("origin", OUR_ORIGIN), FOREIGN_ORIGIN], false),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site"), FOREIGN_ORIGIN], false),
        (&[("x-csrf-token", "guess")], false),
        (&[FOREIGN_ORIGIN, right], false),
        (&[right, right], false),
        (&[right], true),
        (&[("origin", OUR_ORIGIN)], true),
        (&[("sec-fetch-site", "same-origin")], true),
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
            for path in PATHS {
                let headers = [&[("cookie", cookie.as_str())], sent].concat();
                let answer = send(&app, method, path, &headers).await;
                if is_ours {
                    assert_eq!((answer.status, answer.headers.contains_key("x-inside")), (200, true), "{method} {path} {sent:?}");
                } else {
                    answer.assert_refused(403, "cross_site");
                    assert_eq!(answer.header("www-authenticate"), None);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_no_browser_sends_by_itself_may_come_from_anywhere() {
    let world = World::new();
    know_api_key(&world);
    let app = app(&world);
    let (bearer, cookie) = (bearer(&world), valid_cookie(&world));
    for path in PATHS {
        let foreign = [FOREIGN_ORIGIN, ("authorization", &bearer), ("cookie", &cookie)];
        assert_eq!(send(&app, "POST", path, &foreign).await.status, 200, "{path}");
        assert_eq!(send(&app, "GET", path, &[FOREIGN_ORIGIN, ("cookie", &cookie)]).await.status, 200, "{path}");
    }
    assert_eq!(send(&app, "POST", "/caller", &[FOREIGN_ORIGIN, ("x-api-key", "sk_org")]).await.status, 200);
    // Somebody else's business, as long as nobody is asked for.
    assert_eq!(send(&app, "POST", "/maybe/user", &[FOREIGN_ORIGIN]).await.body, "nobody");
}

#[tokio::test]
async fn row_6_another_sites_request_costs_no_refresh_token() {
    let world = World::new();
    world.renew_for(300);
    let app = app(&world);
    let cookie = world.expired_cookie();
    for path in PATHS {
        let answer = send(&app, "POST", path, &[FOREIGN_ORIGIN, ("cookie", &cookie)]).await;
        answer.assert_refused(403, "cross_site");
        assert!(answer.cookies().is_empty());
    }
    assert_eq!(world.server.calls(AUTHENTICATE), 0);
}

#[tokio::test]
async fn row_6_a_websocket_of_another_site_with_the_session_cookie_is_refused() {
    let world = World::new();
    let app = app(&world);
    let (cookie, bearer) = (valid_cookie(&world), bearer(&world));
    let protocols = format!("bearer, {}", bearer.split_once(' ').unwrap().1);
    let upgrades: [(&str, &[(&str, &str)]); 6] = [
        ("GET", &[("connection", "upgrade"), ("upgrade", "websocket")]),
        ("GET", &[("connection", "Upgrade"), ("upgrade", "WebSocket")]),
        ("GET", &[("upgrade", "h2c, websocket")]),
        ("GET", &[("upgrade", "websocket ,h2c")]),
        ("GET", &[("upgrade", "h2c"), ("upgrade", "websocket")]),
        // Over HTTP/2.
        ("CONNECT", &[]),
    ];
    for (method, upgrade) in upgrades {
        for path in PATHS {
            for (sent, is_ours) in [
                (&[][..], false),
                (&[FOREIGN_ORIGIN], false),
                (&[("sec-fetch-site", "cross-site")], false),
                (&[("origin", OUR_ORIGIN)], true),
            ] {
                let headers = [upgrade, &[("cookie", cookie.as_str())], sent].concat();
                let answer = send(&app, method, path, &headers).await;
                if is_ours {
                    assert_eq!(answer.status, 200, "{method} {upgrade:?} {path}");
                } else {
                    answer.assert_refused(403, "cross_site");
                }
            }
            let token = [upgrade, &[FOREIGN_ORIGIN, ("sec-websocket-protocol", &protocols)]].concat();
            assert_eq!(send(&app, method, path, &token).await.status, 200, "{method} {upgrade:?} {path}");
        }
    }
    // A sub-protocol names a token for a WebSocket alone.
    ask(&app, "/user", ("sec-websocket-protocol", &protocols)).await.assert_refused(401, "no_credential");
}

#[tokio::test]
async fn a_websocket_that_brings_its_token_as_sub_protocol_is_answered_with_one() {
    let world = World::new();
    let switch = |_: User| async { StatusCode::SWITCHING_PROTOCOLS };
    let chat = |_: User| async { (StatusCode::SWITCHING_PROTOCOLS, [("sec-websocket-protocol", "chat")]) };
    let app = Router::new().route("/plain", any(switch)).route("/chat", any(chat)).layer(guarded(world.guard.clone()));
    let bearer = bearer(&world);
    let protocols = format!("chat, bearer, {}", bearer.split_once(' ').unwrap().1);
    let upgrade = ("upgrade", "websocket");
    let offered = [upgrade, ("sec-websocket-protocol", protocols.as_str())];
    let by_header = [upgrade, ("authorization", bearer.as_str()), ("sec-websocket-protocol", "chat")];
    for (path, headers, picked) in
        [("/plain", &offered[..], Some("bearer")), ("/chat", &offered, Some("chat")), ("/plain", &by_header, None)]
    {
        let answer = send(&app, "GET", path, headers).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, picked), "{path}");
    }
    let forged = [upgrade, ("sec-websocket-protocol", "bearer, a.b.c")];
    let refused = send(&app, "GET", "/plain", &forged).await;
    refused.assert_refused(401, "invalid_token");
    assert_eq!(refused.header("sec-websocket-protocol"), None);
}
