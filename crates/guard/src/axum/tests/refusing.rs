use super::*;

#[tokio::test]
async fn a_refusal_has_its_status_challenge_and_sentence() {
    let metadata = "https://api.example/.well-known/oauth-protected-resource";
    for named in [false, true] {
        let world = World::with(|config, _| {
            if named {
                config["resource_metadata"] = metadata.into();
            }
        });
        let step_up = Requirement { mfa: true, max_age: Some(Duration::from_secs(300)), ..Requirement::default() };
        let scopes = Requirement { scopes: names(&["a:read", "b"]), ..Requirement::default() };
        let app = behind(&world, "/scopes", require(scopes)).merge(behind(&world, "/step-up", require(step_up))).merge(open_app(&world));
        let bearer = bearer(&world);
        for (path, header, status, code, challenge) in [
            ("/user", ("accept", "*/*"), 401, "no_credential", "Bearer"),
            (
                "/user",
                ("authorization", "Bearer"),
                400,
                "invalid_request",
                r#"Bearer error="invalid_request", error_description="The Authorization header names no token.""#,
            ),
            (
                "/user",
                ("authorization", "Bearer a.b.c"),
                401,
                "invalid_token",
                r#"Bearer error="invalid_token", error_description="The access token is not valid here.""#,
            ),
            (
                "/machine",
                ("authorization", &bearer),
                403,
                "wrong_kind",
                r#"Bearer error="insufficient_scope", error_description="Only machines may call this.""#,
            ),
            (
                "/scopes",
                ("authorization", &bearer),
                403,
                "missing_scope",
                r#"Bearer error="insufficient_scope", error_description="This needs the scope a:read and b.", scope="a:read b""#,
            ),
            (
                "/step-up",
                ("authorization", &bearer),
                401,
                "step_up_required",
                r#"Bearer error="insufficient_user_authentication", error_description="Sign in again, with a second factor.", acr_values="aal2", max_age="300""#,
            ),
        ] {
            let answer = ask(&app, path, header).await;
            answer.assert_refused(status, code);
            let separator = if challenge == "Bearer" { " " } else { ", " };
            let expected = if named { format!("{challenge}{separator}resource_metadata=\"{metadata}\"") } else { challenge.to_owned() };
            assert_eq!(answer.header("www-authenticate"), Some(expected.as_str()), "{path}");
            assert_eq!((answer.header("retry-after"), answer.header(CONTENT_TYPE.as_str())), (None, Some("application/json")));
            let body: HashMap<String, String> = serde_json::from_str(&answer.body).unwrap();
            assert!(body.len() == 2 && body["error_description"].ends_with('.'), "{body:?}");
        }
    }
}

#[tokio::test]
async fn nothing_a_peer_sends_makes_it_fail() {
    let world = World::new();
    let app = open_app(&world);
    let long = format!("Bearer {}", "a".repeat(60_000));
    for (name, value) in [
        ("authorization", &b"Bearer \xff\xfe"[..]),
        ("authorization", b"Bearer \t"),
        ("authorization", b""),
        ("authorization", long.as_bytes()),
        ("x-api-key", b"\xff"),
        ("x-api-key", b""),
        ("cookie", b"wos_session=\xff"),
        ("cookie", b"wos_session="),
        ("cookie", b"wos_session=Fe26.2*1*"),
        ("cookie", b"wos_session=a; wos_session=b"),
        ("cookie", b"wos_session=a; wos_session.1=b; wos_session.7=c"),
        ("upgrade", b"\xff,,websocket"),
    ] {
        for path in ["/user", "/maybe/user"] {
            let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
            let status = app.clone().oneshot(request).await.unwrap().status().as_u16();
            assert!([200, 400, 401].contains(&status) && (status != 200 || path == "/maybe/user"), "{name} {value:?}: {status}");
        }
    }
}
