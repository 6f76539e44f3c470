use super::*;

#[tokio::test]
async fn each_extractor_lets_in_the_kind_it_names() {
    let world = World::new();
    know_api_key(&world);
    let app = open_app(&world);
    let (user, cookie, machine) = (bearer(&world), valid_cookie(&world), machine(&world));
    for (header, subject, kind) in [
        (("authorization", user.as_str()), "user_1", "user"),
        (("cookie", &cookie), "user_1", "user"),
        (("authorization", &machine), "client_9", "machine"),
        (("x-api-key", "sk_org"), "api_key_1", "api_key"),
        (("authorization", "Bearer sk_org"), "api_key_1", "api_key"),
    ] {
        for (path, wanted) in [("user", Some("user")), ("machine", Some("machine")), ("caller", None)] {
            for path in [format!("/{path}"), format!("/maybe/{path}")] {
                let answer = ask(&app, &path, header).await;
                if wanted.is_none_or(|wanted| wanted == kind) {
                    assert_eq!((answer.status, answer.body.as_str()), (200, subject), "{path} {kind}");
                } else {
                    answer.assert_refused(403, "wrong_kind");
                }
            }
        }
    }
    for path in ["/user", "/machine", "/caller"] {
        send(&app, "GET", path, &[]).await.assert_refused(401, "no_credential");
        assert_eq!(send(&app, "GET", &format!("/maybe{path}"), &[]).await.body, "nobody");
    }
}

#[tokio::test]
async fn an_optional_caller_is_nobody_where_the_browser_still_sends_a_dead_session() {
    let world = World::new();
    end_sessions(&world);
    let app = open_app(&world);
    let now = world.clock.now();
    world.guard.revocations().revoke(Revoked::Session("session_2"), now, now.plus(Duration::from_secs(60)));
    let other = new_key("key_1");
    for (what, cookie, is_cleared) in [
        ("garbage", "wos_session=garbage".to_owned(), false),
        ("ended", world.expired_cookie(), true),
        ("cannot be renewed", world.cookie(world.token(&world.key, -60), ""), false),
        ("revoked", world.cookie(token_with(&world, &world.key, json!({ "sid": "session_2" })), "refresh_0"), false),
        ("of another environment", world.cookie(token_with(&world, &world.key, json!({ "iss": "https://old.example" })), "r"), false),
        ("forged", world.cookie(token_with(&world, &other, json!({})), "refresh_0"), false),
    ] {
        let answer = ask(&app, "/maybe/user", ("cookie", &cookie)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "nobody"), "{what}: {answer:?}");
        assert_eq!(answer.cookies().iter().any(|cookie| cookie.starts_with("wos_session=;")), is_cleared, "{what}: {answer:?}");
        // Where somebody has to be signed in, nobody is.
        let refused = ask(&app, "/user", ("cookie", &cookie)).await;
        assert_eq!(refused.status, 401, "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn an_optional_caller_who_shows_a_bad_token_is_refused() {
    let world = World::new();
    know_api_key(&world);
    let app = open_app(&world);
    let now = world.clock.now();
    world.guard.revocations().revoke(Revoked::Session("session_2"), now, now.plus(Duration::from_secs(60)));
    let (good, cookie) = (bearer(&world), valid_cookie(&world));
    let forged = format!("Bearer {}", token_with(&world, &new_key("key_1"), json!({})));
    let expired = bearer_with(&world, json!({ "exp": now.seconds() - 60 }));
    let revoked = bearer_with(&world, json!({ "sid": "session_2" }));
    for (headers, status, code) in [
        (&[("authorization", forged.as_str())][..], 401, "invalid_token"),
        (&[("authorization", &expired)], 401, "invalid_token"),
        (&[("authorization", &revoked)], 401, "revoked"),
        (&[("x-api-key", "sk_nobody")], 401, "inactive"),
        (&[("authorization", &forged), ("cookie", &cookie)], 401, "invalid_token"),
        (&[("authorization", &forged), ("cookie", "wos_session=garbage")], 401, "invalid_token"),
        (&[("authorization", &good), ("x-api-key", "sk_org")], 400, "invalid_request"),
        (&[("authorization", &good), ("authorization", &good)], 400, "invalid_request"),
        (&[("authorization", "Bearer")], 400, "invalid_request"),
    ] {
        for path in ["/user", "/caller", "/maybe/user", "/maybe/caller"] {
            send(&app, "GET", path, headers).await.assert_refused(status, code);
        }
    }
}
