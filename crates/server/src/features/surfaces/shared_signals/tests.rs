use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::post;
use gatewright_jose::{Algorithm, Jwks, VerifyingKeys, verify_jws};
use serde_json::{Value, json};

use super::delivery::dispatch;
use crate::both_engines;
use crate::testkit::{Answer, Tenant, TestApp};

const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CREDENTIAL_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/credential-change";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
const EMAIL: &str = "alice@example.test";
const PASSWORD: &str = "correct horse battery";

fn streams(tenant: &Tenant) -> String {
    format!("/shared_signals/{}/streams", tenant.client_id)
}

async fn good(app: &TestApp, method: Method, path: &str, body: Value) -> Value {
    let answer = app.api(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    answer.body
}

async fn stream(app: &TestApp, body: Value) -> Value {
    let answer = app.api(Method::POST, &streams(&app.tenant), body).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")), "{}", answer.text);
    answer.body
}

async fn poll(app: &TestApp, stream: &Value, body: Value) -> Answer {
    let url = stream["delivery"]["endpoint_url"].as_str().unwrap().strip_prefix("http://localhost:4700").unwrap().to_owned();
    let answer = app.api(Method::POST, &url, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// What waits in the stream: `jti` and verified claims, in order.
async fn waiting(app: &TestApp, stream: &Value) -> Vec<(String, Value)> {
    let answer = poll(app, stream, json!({"returnImmediately": true})).await;
    let mut found = Vec::new();
    for (jti, set) in answer.body["sets"].as_object().unwrap() {
        let claims = verified(app, set.as_str().unwrap()).await;
        assert_eq!(claims["jti"], jti.as_str());
        found.push((jti.clone(), claims));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

async fn acknowledge(app: &TestApp, stream: &Value) {
    let ids: Vec<_> = waiting(app, stream).await.into_iter().map(|(jti, _)| jti).collect();
    poll(app, stream, json!({"returnImmediately": true, "maxEvents": 0, "ack": ids})).await;
}

/// As a receiver does it: the key set of the metadata, the type, and no claim that would make it an access token.
async fn verified(app: &TestApp, set: &str) -> Value {
    let jwks = app.anonymous(Method::GET, &format!("/sso/jwks/{}", app.tenant.client_id), Value::Null).await.body;
    let keys = VerifyingKeys::from_jwks(&serde_json::from_value::<Jwks>(jwks).unwrap()).unwrap();
    let jws = verify_jws(&keys, set, &[Algorithm::RS256]).expect("signed by the environment's key");
    assert_eq!(jws.typ.as_deref(), Some("secevent+jwt"));
    let claims: Value = serde_json::from_slice(&jws.payload).unwrap();
    assert!(claims.get("sub").is_none() && claims.get("exp").is_none(), "{claims}");
    assert_eq!(claims["iss"], format!("http://localhost:4700/user_management/{}", app.tenant.client_id));
    assert_eq!(claims["aud"], app.tenant.client_id.as_str());
    assert!(claims["iat"].is_i64() && claims["txn"].is_string());
    claims
}

fn event<'a>(claims: &'a Value, name: &str) -> &'a Value {
    let events = claims["events"].as_object().unwrap();
    assert_eq!(events.keys().collect::<Vec<_>>(), [name]);
    &events[name]
}

both_engines!(the_metadata_say_what_there_is, |app| async move {
    let client = &app.tenant.client_id;
    let path = format!("/.well-known/ssf-configuration/user_management/{client}");
    let answer = app.anonymous(Method::GET, &path, Value::Null).await;
    let base = format!("http://localhost:4700/shared_signals/{client}");
    assert_eq!(
        answer.body,
        json!({
            "spec_version": "1_0",
            "issuer": format!("http://localhost:4700/user_management/{client}"),
            "jwks_uri": format!("http://localhost:4700/sso/jwks/{client}"),
            "delivery_methods_supported": ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
            "configuration_endpoint": format!("{base}/streams"),
            "status_endpoint": format!("{base}/status"),
            "verification_endpoint": format!("{base}/verification"),
            "critical_subject_members": ["session", "tenant"],
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL",
        })
    );
    let unknown = app.anonymous(Method::GET, "/.well-known/ssf-configuration/user_management/client_x", Value::Null).await;
    assert_eq!(unknown.status, 404);
});

both_engines!(a_stream_is_made_read_changed_replaced_and_deleted, |app| async move {
    let path = streams(&app.tenant);
    assert_eq!(good(&app, Method::GET, &path, Value::Null).await, json!([]));
    let asked = json!({
        "delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "https://receiver.test/events", "authorization_header": "Bearer s3cret"},
        "events_requested": [SESSION_REVOKED, "urn:example:unknown"],
        "description": "for the receiver"
    });
    let made = stream(&app, asked).await;
    let id = made["stream_id"].as_str().unwrap().to_owned();
    assert_eq!(
        made,
        json!({
            "stream_id": id,
            "iss": format!("http://localhost:4700/user_management/{}", app.tenant.client_id),
            "aud": app.tenant.client_id,
            "delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "https://receiver.test/events"},
            "events_supported": [SESSION_REVOKED, CREDENTIAL_CHANGE],
            "events_requested": [SESSION_REVOKED, "urn:example:unknown"],
            "events_delivered": [SESSION_REVOKED],
            "min_verification_interval": 60,
            "description": "for the receiver",
        })
    );
    let one = format!("{path}?stream_id={id}");
    assert_eq!(good(&app, Method::GET, &one, Value::Null).await, made);
    assert_eq!(good(&app, Method::GET, &path, Value::Null).await, json!([made]));

    // What is ours may be repeated and not be changed; what is not named stays.
    let patched = good(&app, Method::PATCH, &path, json!({"stream_id": id, "iss": made["iss"], "description": "other"})).await;
    assert_eq!((&patched["description"], &patched["delivery"]), (&json!("other"), &made["delivery"]));
    for wrong in [json!({"aud": "somebody"}), json!({"events_delivered": []}), json!({"iss": "https://evil.test"})] {
        let mut body = wrong.clone();
        body["stream_id"] = json!(id);
        assert_eq!(app.api(Method::PATCH, &path, body).await.status, 400, "{wrong}");
    }
    // The rest of a replacement is gone: it is polled now, and tells everything.
    let replaced = good(&app, Method::PUT, &path, json!({"stream_id": id})).await;
    let poll_url = format!("http://localhost:4700{path}/{id}/poll");
    assert_eq!(replaced["delivery"], json!({"method": "urn:ietf:rfc:8936", "endpoint_url": poll_url}));
    assert_eq!((replaced.get("description"), replaced.get("events_requested")), (None, None));
    assert_eq!(replaced["events_delivered"], json!([SESSION_REVOKED, CREDENTIAL_CHANGE]));
    assert_eq!(good(&app, Method::GET, &one, Value::Null).await, replaced);
    assert_eq!(app.api(Method::DELETE, &one, Value::Null).await.status, 204);
    for (method, path, body) in [
        (Method::GET, one.clone(), Value::Null),
        (Method::DELETE, one.clone(), Value::Null),
        (Method::PATCH, path.clone(), json!({"stream_id": id})),
        (Method::POST, format!("{path}/{id}/poll"), json!({"returnImmediately": true})),
    ] {
        assert_eq!(app.api(method.clone(), &path, body).await.status, 404, "{method} {path}");
    }
    let told: Vec<(String, Value)> = app.events().await.into_iter().filter(|(name, _)| name.starts_with("ssf_stream.")).collect();
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ssf_stream.created", "ssf_stream.updated", "ssf_stream.updated", "ssf_stream.deleted"]);
    assert_eq!((&told[0].1["id"], &told[0].1["endpoint_url"]), (&json!(id), &json!("https://receiver.test/events")));
    assert!(!format!("{told:?}").contains("s3cret"));
});

both_engines!(wrong_requests_are_answered_with_400, |app| async move {
    let path = streams(&app.tenant);
    let push = |url: &str| json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": url}});
    for body in [
        json!([]),
        json!({"delivery": {"method": "carrier pigeon"}}),
        push("http://10.0.0.1/events"),
        push("https://user:password@receiver.test/"),
        push("ftp://receiver.test/"),
        push("nonsense"),
        json!({"events_requested": "all"}),
    ] {
        assert_eq!(app.api(Method::POST, &path, body.clone()).await.status, 400, "{body}");
    }
    for (method, path) in [
        (Method::PATCH, path.clone()),
        (Method::PUT, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, path.replace("/streams", "/status")),
        (Method::POST, path.replace("/streams", "/status")),
        (Method::POST, path.replace("/streams", "/verification")),
    ] {
        let body = if method == Method::GET || method == Method::DELETE { Value::Null } else { json!({}) };
        assert_eq!(app.api(method.clone(), &path, body).await.status, 400, "{method} {path}: stream_id is missing");
    }
    for number in 0..10 {
        stream(&app, json!({"description": number.to_string()})).await;
    }
    assert_eq!(app.api(Method::POST, &path, json!({})).await.status, 409, "the eleventh");
});

both_engines!(no_environment_reaches_anothers_streams, |app| async move {
    let made = stream(&app, json!({})).await;
    let id = made["stream_id"].as_str().unwrap();
    for client in [&app.tenant.client_id, &app.other.client_id] {
        let base = format!("/shared_signals/{client}");
        for (method, path, body) in [
            (Method::GET, format!("{base}/streams?stream_id={id}"), Value::Null),
            (Method::PATCH, format!("{base}/streams"), json!({"stream_id": id, "description": "x"})),
            (Method::PUT, format!("{base}/streams"), json!({"stream_id": id})),
            (Method::DELETE, format!("{base}/streams?stream_id={id}"), Value::Null),
            (Method::GET, format!("{base}/status?stream_id={id}"), Value::Null),
            (Method::POST, format!("{base}/status"), json!({"stream_id": id, "status": "disabled"})),
            (Method::POST, format!("{base}/verification"), json!({"stream_id": id})),
            (Method::POST, format!("{base}/streams/{id}/poll"), json!({"returnImmediately": true})),
        ] {
            assert_eq!(app.api_as(&app.other, method.clone(), &path, body.clone()).await.status, 404, "{method} {path}");
            assert_eq!(app.anonymous(method, &path, body).await.status, 401, "{path}");
        }
    }
    assert_eq!(good(&app, Method::GET, &format!("{}?stream_id={id}", streams(&app.tenant)), Value::Null).await, made);
});

both_engines!(each_end_of_access_and_each_change_of_a_credential_is_a_token, |app| async move {
    let stream = stream(&app, json!({})).await;
    let issuer = format!("http://localhost:4700/user_management/{}", app.tenant.client_id);
    let user = app.user(EMAIL, PASSWORD).await["id"].as_str().unwrap().to_owned();
    let iss_sub = json!({"format": "iss_sub", "iss": issuer, "sub": user});
    let acme = good(&app, Method::POST, "/organizations", json!({"name": "Acme"})).await["id"].clone();
    let join = json!({"user_id": user, "organization_id": acme});
    let membership = good(&app, Method::POST, "/user_management/organization_memberships", join).await["id"].clone();
    let key = good(&app, Method::POST, &format!("/organizations/{}/api_keys", acme.as_str().unwrap()), json!({"name": "k"})).await;
    let tenant = json!({"format": "complex", "tenant": {"format": "opaque", "id": acme}});
    let [(_, created)] = waiting(&app, &stream).await.try_into().unwrap();
    assert_eq!(created["sub_id"], tenant);
    assert_eq!(
        event(&created, CREDENTIAL_CHANGE),
        &json!({"event_timestamp": 1_768_478_400, "initiating_entity": "admin", "credential_type": "api-key", "change_type": "create",
            "credential_id": key["id"]})
    );
    acknowledge(&app, &stream).await;

    app.sign_in(EMAIL, PASSWORD).await;
    let sessions = good(&app, Method::GET, &format!("/user_management/users/{user}/sessions"), Value::Null).await;
    let session = sessions["data"][0]["id"].clone();
    good(&app, Method::POST, "/user_management/sessions/revoke", json!({"session_id": session})).await;
    let [(_, revoked)] = waiting(&app, &stream).await.try_into().unwrap();
    assert_eq!(revoked["sub_id"], json!({"format": "complex", "user": iss_sub, "session": {"format": "opaque", "id": session}}));
    assert_eq!(
        event(&revoked, SESSION_REVOKED),
        &json!({"event_timestamp": 1_768_478_400, "initiating_entity": "admin", "reason_admin": {"en": "revoked"}})
    );
    acknowledge(&app, &stream).await;

    good(&app, Method::PUT, &format!("/user_management/users/{user}"), json!({"password": "a whole new passphrase"})).await;
    let [(_, changed)] = waiting(&app, &stream).await.try_into().unwrap();
    assert_eq!(changed["sub_id"], iss_sub);
    let said = event(&changed, CREDENTIAL_CHANGE);
    assert_eq!((said["credential_type"].as_str(), said["change_type"].as_str()), (Some("password"), Some("update")));
    acknowledge(&app, &stream).await;

    good(&app, Method::DELETE, &format!("/api_keys/{}", key["id"].as_str().unwrap()), Value::Null).await;
    let path = format!("/user_management/organization_memberships/{}", membership.as_str().unwrap());
    good(&app, Method::DELETE, &path, Value::Null).await;
    good(&app, Method::DELETE, &format!("/user_management/users/{user}"), Value::Null).await;
    let found = waiting(&app, &stream).await;
    let [(_, key_gone), (_, left), (_, deleted)] = <[_; 3]>::try_from(found).unwrap();
    assert_eq!((&key_gone["sub_id"], &event(&key_gone, CREDENTIAL_CHANGE)["change_type"]), (&tenant, &json!("delete")));
    assert_eq!(left["sub_id"], json!({"format": "complex", "user": iss_sub, "tenant": {"format": "opaque", "id": acme}}));
    assert_eq!(event(&left, SESSION_REVOKED)["reason_admin"]["en"], "membership deleted");
    assert_eq!((&deleted["sub_id"], &event(&deleted, SESSION_REVOKED)["reason_admin"]["en"]), (&iss_sub, &json!("user deleted")));
});

both_engines!(polling_gives_again_what_was_not_acknowledged, |app| async move {
    let stream = stream(&app, json!({"events_requested": [CREDENTIAL_CHANGE]})).await;
    let acme = good(&app, Method::POST, "/organizations", json!({"name": "Acme"})).await["id"].as_str().unwrap().to_owned();
    for number in 0..3 {
        good(&app, Method::POST, &format!("/organizations/{acme}/api_keys"), json!({"name": number.to_string()})).await;
    }
    let all = waiting(&app, &stream).await;
    assert_eq!((all.len(), waiting(&app, &stream).await == all), (3, true));
    let limited = poll(&app, &stream, json!({"maxEvents": 2, "returnImmediately": true})).await;
    assert_eq!((limited.body["sets"].as_object().unwrap().len(), &limited.body["moreAvailable"]), (2, &json!(true)));
    // One is acknowledged, one refused: both are settled.
    let body =
        json!({"returnImmediately": true, "ack": [all[0].0], "setErrs": {&all[1].0: {"err": "invalid_request", "description": "?"}}});
    let rest = poll(&app, &stream, body).await;
    assert_eq!(rest.body["sets"].as_object().unwrap().keys().collect::<Vec<_>>(), [&all[2].0]);
    assert_eq!(rest.body.get("moreAvailable"), None);
    for wrong in
        [json!({"maxEvents": "2"}), json!({"ack": "x"}), json!({"ack": [1]}), json!({"setErrs": []}), json!({"returnImmediately": 1})]
    {
        let path = format!("{}/{}/poll", streams(&app.tenant), stream["stream_id"].as_str().unwrap());
        assert_eq!(app.api(Method::POST, &path, wrong.clone()).await.status, 400, "{wrong}");
    }
});

both_engines!(a_paused_stream_holds_and_a_disabled_one_forgets, |app| async move {
    let stream = stream(&app, json!({})).await;
    let status = format!("/shared_signals/{}/status", app.tenant.client_id);
    let set =
        async |to: &str| good(&app, Method::POST, &status, json!({"stream_id": stream["stream_id"], "status": to, "reason": "why"})).await;
    let one = format!("{status}?stream_id={}", stream["stream_id"].as_str().unwrap());
    assert_eq!(good(&app, Method::GET, &one, Value::Null).await, json!({"stream_id": stream["stream_id"], "status": "enabled"}));
    let user = app.user(EMAIL, PASSWORD).await["id"].as_str().unwrap().to_owned();
    let change = async || good(&app, Method::PUT, &format!("/user_management/users/{user}"), json!({"password": PASSWORD})).await;
    let paused = set("paused").await;
    assert_eq!(paused, json!({"stream_id": stream["stream_id"], "status": "paused", "reason": "why"}));
    assert_eq!(good(&app, Method::GET, &one, Value::Null).await, paused);
    change().await;
    assert_eq!(waiting(&app, &stream).await, []);
    set("enabled").await;
    assert_eq!(waiting(&app, &stream).await.len(), 1);
    set("disabled").await;
    change().await;
    crate::run_jobs(app.cx()).await;
    set("enabled").await;
    assert_eq!(waiting(&app, &stream).await, []);
    let wrong = json!({"stream_id": stream["stream_id"], "status": "asleep"});
    assert_eq!(app.api(Method::POST, &status, wrong).await.status, 400);
    let told = app.events().await.into_iter().filter(|(name, _)| name == "ssf_stream.updated");
    assert_eq!(told.map(|(_, data)| data["status"].clone()).collect::<Vec<_>>(), ["paused", "enabled", "disabled", "enabled"]);
});

both_engines!(a_verification_is_sent_once_a_minute, |app| async move {
    let stream = stream(&app, json!({})).await;
    let path = format!("/shared_signals/{}/verification", app.tenant.client_id);
    let ask = async |state: Option<&str>| app.api(Method::POST, &path, json!({"stream_id": stream["stream_id"], "state": state})).await;
    assert_eq!(ask(Some("VGhpcyBp")).await.status, 204);
    let again = ask(None).await;
    assert_eq!((again.status, again.header("retry-after")), (429, Some("60")));
    let [(_, claims)] = waiting(&app, &stream).await.try_into().unwrap();
    assert_eq!(claims["sub_id"], json!({"format": "opaque", "id": stream["stream_id"]}));
    assert_eq!(event(&claims, VERIFICATION), &json!({"state": "VGhpcyBp"}));
    acknowledge(&app, &stream).await;
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(ask(None).await.status, 204);
    let [(_, claims)] = waiting(&app, &stream).await.try_into().unwrap();
    assert_eq!(event(&claims, VERIFICATION), &json!({}));
});

/// A receiver on this machine: what came, and what it answers next; 202 when nothing is said.
#[derive(Clone, Default)]
struct Receiver {
    came: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let router = Router::new().route("/events", post(Self::take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
        receiver.came.lock().unwrap().push((headers, String::from_utf8(body.to_vec()).unwrap()));
        let (status, body) = receiver.answers.lock().unwrap().pop_front().unwrap_or((202, ""));
        (StatusCode::from_u16(status).unwrap(), body)
    }

    fn answer(&self, status: u16, body: &'static str) {
        self.answers.lock().unwrap().push_back((status, body));
    }

    /// The tokens that came since the last call.
    fn came(&self) -> Vec<(HeaderMap, String)> {
        std::mem::take(&mut self.came.lock().unwrap())
    }
}

async fn push(app: &TestApp) {
    crate::run_jobs(app.cx()).await;
    app.cx().lanes().idle().await;
}

async fn pushed_stream(app: &TestApp, url: &str) -> Value {
    let delivery = json!({"method": "urn:ietf:rfc:8935", "endpoint_url": url, "authorization_header": "Bearer s3cret"});
    stream(app, json!({"delivery": delivery, "events_requested": [CREDENTIAL_CHANGE]})).await
}

async fn new_key(app: &TestApp, organization: &str) -> Value {
    good(app, Method::POST, &format!("/organizations/{organization}/api_keys"), json!({"name": "key"})).await["id"].clone()
}

async fn key_in(app: &TestApp, set: &str) -> Value {
    event(&verified(app, set).await, CREDENTIAL_CHANGE)["credential_id"].clone()
}

both_engines!(a_push_is_retried_in_order_until_it_is_taken, |app| async move {
    let (receiver, url) = Receiver::start().await;
    pushed_stream(&app, &url).await;
    let acme = good(&app, Method::POST, "/organizations", json!({"name": "Acme"})).await["id"].as_str().unwrap().to_owned();
    let (first, second) = (new_key(&app, &acme).await, new_key(&app, &acme).await);
    receiver.answer(503, "");
    push(&app).await;
    let [(headers, set)] = receiver.came().try_into().unwrap();
    assert_eq!(key_in(&app, &set).await, first, "and the second waits behind it");
    for (name, value) in [("content-type", "application/secevent+jwt"), ("accept", "application/json"), ("authorization", "Bearer s3cret")]
    {
        assert_eq!(headers[name], value);
    }
    push(&app).await;
    assert_eq!(receiver.came().len(), 0, "not before its time");
    app.clock.advance(Duration::from_secs(2));
    receiver.answer(400, r#"{"err":"authentication_failed","description":"?"}"#);
    push(&app).await;
    assert_eq!(receiver.came().len(), 1, "a receiver that does not know us yet is asked again");
    app.clock.advance(Duration::from_secs(10));
    push(&app).await;
    let came = receiver.came();
    assert_eq!(came[0].1, set, "the same token once more");
    let mut keys = Vec::new();
    for (_, set) in &came {
        keys.push(key_in(&app, set).await);
    }
    assert_eq!(keys, [first, second]);
    app.clock.advance(Duration::from_secs(3_600));
    push(&app).await;
    assert_eq!(receiver.came().len(), 0, "what was taken is not sent again");
});

both_engines!(a_refused_event_holds_up_nothing_and_a_dead_receiver_nobody_else, |app| async move {
    let (receiver, url) = Receiver::start().await;
    let dead = pushed_stream(&app, "http://127.0.0.1:9/events").await;
    pushed_stream(&app, &url).await;
    let acme = good(&app, Method::POST, "/organizations", json!({"name": "Acme"})).await["id"].as_str().unwrap().to_owned();
    new_key(&app, &acme).await;
    let second = new_key(&app, &acme).await;
    receiver.answer(400, r#"{"err":"invalid_request","description":"?"}"#);
    push(&app).await;
    let came = receiver.came();
    assert_eq!((came.len(), key_in(&app, &came[1].1).await), (2, second));
    // A week later nobody waits for it any more, and it is not sent when the receiver comes back.
    app.clock.advance(Duration::from_secs(8 * 86_400));
    crate::run_jobs(app.cx()).await;
    let body = json!({"stream_id": dead["stream_id"], "delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": url}});
    good(&app, Method::PATCH, &streams(&app.tenant), body).await;
    push(&app).await;
    assert_eq!(receiver.came().len(), 0);
});

both_engines!(the_authorization_of_a_receiver_is_sealed_and_never_shown, |app| async move {
    let (_, url) = Receiver::start().await;
    let made = pushed_stream(&app, &url).await;
    let read = app.api(Method::GET, &streams(&app.tenant), Value::Null).await;
    assert!(!made.to_string().contains("s3cret") && !read.text.contains("s3cret"));
    let sql = "SELECT authorization_sealed FROM shared_signals_streams";
    let sealed = app.cx().db().read(move |tx| tx.one(sql, &[])?.bytes()).await.unwrap();
    assert!(!sealed.windows(6).any(|part| part == b"s3cret"));
});

both_engines!(dispatching_on_several_nodes_at_once_tells_each_event_once, |app| async move {
    let stream = stream(&app, json!({"events_requested": [CREDENTIAL_CHANGE]})).await;
    let acme = good(&app, Method::POST, "/organizations", json!({"name": "Acme"})).await["id"].as_str().unwrap().to_owned();
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(new_key(&app, &acme).await);
    }
    for key in &keys[..4] {
        good(&app, Method::DELETE, &format!("/api_keys/{}", key.as_str().unwrap()), Value::Null).await;
    }
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let cx = app.cx().clone();
        nodes.spawn(async move { dispatch(&cx).await });
    }
    for done in nodes.join_all().await {
        done.unwrap();
    }
    assert_eq!(waiting(&app, &stream).await.len(), 12);
});

both_engines!(rows_taken_away_by_hand_keep_no_node_busy, |app| async move {
    let stream = stream(&app, json!({})).await;
    let gone = app.cx().db().write(|tx| tx.execute("UPDATE revocation_heads SET seq = seq + 1 WHERE name = 'given'", &[])).await;
    assert_eq!(gone, Ok::<_, gatewright_db::DbError>(1));
    tokio::time::timeout(Duration::from_secs(20), dispatch(app.cx())).await.expect("it ends").unwrap();
    assert_eq!(waiting(&app, &stream).await, []);
});
