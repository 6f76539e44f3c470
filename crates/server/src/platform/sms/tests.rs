use std::time::Duration;

use axum::http::Method;
use gatewright_base::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::both_engines;
use crate::testkit::{On, TestApp};

const SECRET: &str = "whsec_text_messages";

/// Takes one request and answers it with `status`.
async fn take(listener: &TcpListener, status: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let length = stream.read(&mut piece).await.unwrap();
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let Ok(body) = serde_json::from_str(body) else { continue };
        let head = head.to_owned();
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        return (head, body);
    }
}

async fn deliver(app: &TestApp) {
    (super::job().run)(app.cx()).await.unwrap();
}

both_engines!(a_code_by_message_goes_to_the_sender_signed_and_is_tried_again, |other| async move {
    let on = if other.is_sqlite() { On::Sqlite } else { On::Postgres };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sms", listener.local_addr().unwrap());
    let app = TestApp::start_with(on, |config| {
        (config.sms.webhook_url, config.sms.webhook_secret) = (Some(url.clone()), Some(Secret::new(SECRET.to_owned())));
    })
    .await;
    let factor = app.api(Method::POST, "/auth/factors/enroll", json!({"type": "sms", "phone_number": "+49 151 12345678"})).await;
    assert_eq!((factor.status, &factor.body["sms"]["phone_number"]), (201, &json!("+4915112345678")), "{}", factor.text);
    let path = format!("/auth/factors/{}/challenge", factor.body["id"].as_str().unwrap());
    let asked = app.api(Method::POST, &path, json!({"sms_template": "Bankomat: {{code}}"})).await;
    assert_eq!((asked.status, asked.body.get("code")), (201, None), "{}", asked.text);
    assert!(app.mails().await.is_empty(), "with a sender there is nothing in the inbox");

    let (refused, _) = tokio::join!(take(&listener, "503 Busy"), deliver(&app));
    app.clock.advance(Duration::from_secs(6));
    let ((head, body), ()) = tokio::join!(take(&listener, "204 No Content"), deliver(&app));
    assert_eq!((&body["id"], &body["to"], &body["text"]), (&refused.1["id"], &json!("+4915112345678"), &refused.1["text"]));
    let signature = head.lines().find_map(|line| line.to_lowercase().starts_with("workos-signature: ").then(|| line[18..].to_owned()));
    assert!(gatewright_jose::webhook::verify(SECRET, body.to_string().as_bytes(), &signature.unwrap(), app.now(), 60));
    let code = body["text"].as_str().unwrap().strip_prefix("Bankomat: ").unwrap();
    let verify = format!("/auth/challenges/{}/verify", asked.body["id"].as_str().unwrap());
    let answer = app.api(Method::POST, &verify, json!({"code": code})).await;
    assert_eq!((answer.status, &answer.body["valid"]), (201, &json!(true)), "{}", answer.text);
    // Nothing is left to send.
    app.clock.advance(Duration::from_secs(3_600));
    assert!(
        tokio::time::timeout(Duration::from_millis(200), async { tokio::join!(take(&listener, "200 OK"), deliver(&app)) }).await.is_err()
    );
});
