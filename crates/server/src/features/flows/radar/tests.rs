use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, Method};
use gatewright_jose::totp;
use serde_json::{Value, json};

use super::store::{self, AttemptRow, Keys};
use super::{Action, Outcome, RadarAttemptId};
use crate::both_engines;
use crate::features::records::environments::Reaction;
use crate::testkit::{Answer, Browser, On, TestApp};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const PASSWORD: &str = "correct horse battery";
const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36";
const BY_EMAIL: &str = "urn:workos:oauth:grant-type:radar-email-challenge:code";
const BY_SMS: &str = "urn:workos:oauth:grant-type:radar-sms-challenge:code";

/// By password, from a place.
async fn sign_in(app: &TestApp, email: &str, password: &str, ip: &str) -> Answer {
    tick(app);
    app.authenticate(json!({"grant_type": "password", "email": email, "password": password, "ip_address": ip, "user_agent": CHROME})).await
}

/// Mails of one millisecond have no order.
fn tick(app: &TestApp) {
    app.clock.advance(Duration::from_millis(1));
}

async fn challenge_new_devices(app: &TestApp) {
    app.settings(|settings| settings.radar.unrecognized_device = Reaction::Challenge).await;
}

/// A user who signed in from home, and is now somewhere else.
async fn stopped(app: &TestApp, email: &str) -> Answer {
    app.user(email, PASSWORD).await;
    let first = sign_in(app, email, PASSWORD, "192.0.2.1").await;
    assert_eq!(first.status, 200, "{}", first.text);
    stop_again(app, email).await
}

async fn stop_again(app: &TestApp, email: &str) -> Answer {
    let second = sign_in(app, email, PASSWORD, "198.51.100.1").await;
    assert_eq!((second.status, second.code()), (403, "radar_challenge"), "{}", second.text);
    second
}

/// The body that finishes `stopped` with `code`.
fn finishing(stopped: &Answer, code: &str) -> Value {
    json!({
        "grant_type": BY_EMAIL,
        "code": code,
        "radar_challenge_id": stopped.body["radar_challenge_id"],
        "pending_authentication_token": stopped.body["pending_authentication_token"],
        "ip_address": "198.51.100.1",
        "user_agent": CHROME,
    })
}

async fn newest_code(app: &TestApp) -> String {
    app.mails().await[0].code.clone().unwrap()
}

fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

async fn named(app: &TestApp, name: &str) -> Vec<Value> {
    app.events().await.into_iter().filter(|(event, _)| event == name).map(|(_, data)| data).collect()
}

both_engines!(a_sign_in_from_a_new_device_waits_for_the_mailbox_and_the_device_is_known_then, |app| async {
    challenge_new_devices(&app).await;
    let stopped = stopped(&app, ALICE).await;
    let id = stopped.body["radar_challenge_id"].as_str().unwrap();
    assert_eq!((stopped.body["user"]["email"].as_str(), stopped.body["email"].as_str()), (Some(ALICE), Some(ALICE)));
    assert!(gatewright_base::is_id("radar_challenge", id), "{id}");

    let code = newest_code(&app).await;
    let path = format!("/user_management/radar_challenges/{id}");
    let shown = app.api(Method::GET, &path, Value::Null).await;
    assert_eq!((shown.status, shown.body["code"].as_str(), shown.body["type"].as_str()), (200, Some(code.as_str()), Some("email")));
    assert_eq!(app.api_as(&app.other, Method::GET, &path, Value::Null).await.status, 404);

    let done = app.authenticate(finishing(&stopped, &code)).await;
    assert_eq!((done.status, done.body["authentication_method"].as_str()), (200, Some("Password")), "{}", done.text);
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.status, 200, "the device is known now");
    let user = &done.body["user"]["id"];
    assert_eq!(
        named(&app, "radar.challenge_created").await,
        [json!({"type": "email", "radar_challenge_id": id, "user_id": user, "email": ALICE})]
    );
    assert_eq!(
        named(&app, "authentication.radar_risk_detected").await,
        [
            json!({"auth_method": "password", "action": "login", "control": "challenge", "blocklist_type": null, "ip_address": "198.51.100.1",
            "user_agent": CHROME, "user_id": user, "email": ALICE})
        ]
    );
    let explained = &named(&app, "radar.assessed").await[0];
    assert_eq!((&explained["verdict"], &explained["reasons"][0]["control"]), (&json!("challenge"), &json!("unrecognized_device")));
    assert_eq!(named(&app, "radar.challenge_passed").await.len(), 1);
    assert_eq!(named(&app, "authentication.password_succeeded").await.len(), 3);
});

both_engines!(by_default_nobody_is_disturbed_and_everything_is_written_down, |app| async {
    app.user(ALICE, PASSWORD).await;
    for _ in 0..12 {
        assert_eq!(sign_in(&app, ALICE, "wrong password", "192.0.2.1").await.code(), "invalid_credentials");
    }
    for ip in ["192.0.2.1", "198.51.100.1", "203.0.113.1"] {
        let body = json!({"grant_type": "password", "email": ALICE, "password": PASSWORD, "ip_address": ip, "user_agent": "curl/8.5.0"});
        assert_eq!(app.authenticate(body).await.status, 200, "{ip}");
        tick(&app);
    }
    let explained = named(&app, "radar.assessed").await;
    let found: Vec<_> =
        explained.iter().flat_map(|entry| entry["reasons"].as_array().unwrap()).map(|reason| reason["control"].as_str().unwrap()).collect();
    for control in ["brute_force_attack", "bot_detection", "unrecognized_device"] {
        assert!(found.contains(&control), "{control} in {found:?}");
    }
    assert!(explained.iter().all(|entry| entry["verdict"] == "allow"), "{explained:?}");
    assert!(named(&app, "authentication.radar_risk_detected").await.is_empty());
    // A back end that says nothing of the person is asked nothing about.
    assert_eq!(app.sign_in(ALICE, PASSWORD).await["user"]["email"], ALICE);
});

both_engines!(row_33_a_challenge_counts_for_its_own_sign_in_its_own_step_and_once, |app| async {
    challenge_new_devices(&app).await;
    let alice = stopped(&app, ALICE).await;
    let alices = newest_code(&app).await;
    let bob = stopped(&app, BOB).await;
    let bobs = newest_code(&app).await;

    let other_challenge = |mut body: Value, of: &Answer| {
        body["radar_challenge_id"] = of.body["radar_challenge_id"].clone();
        body
    };
    // Bob's challenge with Alice's sign-in, and the other way round.
    for body in [other_challenge(finishing(&alice, &bobs), &bob), other_challenge(finishing(&bob, &alices), &alice)] {
        assert_eq!(app.authenticate(body).await.code(), "invalid_one_time_code");
    }
    // An older sign-in of hers with the newer one's code: made for another sign-in, whoever's it is.
    let again = stop_again(&app, ALICE).await;
    let newer = newest_code(&app).await;
    assert_eq!(app.authenticate(other_challenge(finishing(&alice, &newer), &again)).await.code(), "invalid_one_time_code");
    assert_eq!(app.authenticate(finishing(&alice, &alices)).await.code(), "one_time_code_previously_used", "the newer one took its place");
    // The token is of this step alone, of this client, and of this environment.
    for grant in ["email-verification:code", "organization-selection", "mfa-totp"] {
        let mut body = finishing(&again, &newer);
        body["grant_type"] = json!(format!("urn:workos:oauth:grant-type:{grant}"));
        body["organization_id"] = json!("org_01JD8Q4ZK7ABCDEFGHJKMNPQRS");
        body["authentication_challenge_id"] = json!("auth_challenge_01JD8Q4ZK7ABCDEFGHJKMNPQRS");
        assert_eq!(app.authenticate(body).await.code(), "invalid_pending_authentication_token", "{grant}");
    }
    let mut strange = finishing(&again, &newer);
    strange["client_id"] = json!(app.other.client_id);
    strange["client_secret"] = json!(app.other.api_key);
    let answer = app.anonymous(Method::POST, "/user_management/authenticate", strange).await;
    assert_eq!(answer.code(), "invalid_pending_authentication_token");

    assert_eq!(app.authenticate(finishing(&again, &newer)).await.status, 200);
    assert_eq!(app.authenticate(finishing(&again, &newer)).await.code(), "invalid_pending_authentication_token");
    assert_eq!(app.authenticate(finishing(&bob, &bobs)).await.status, 200, "all that tried nothing of his own");
});

both_engines!(row_33_a_challenge_dies_of_five_tries_and_of_age, |app| async {
    challenge_new_devices(&app).await;
    let tried = stopped(&app, ALICE).await;
    let code = newest_code(&app).await;
    for _ in 0..5 {
        assert_eq!(app.authenticate(finishing(&tried, &wrong(&code))).await.code(), "invalid_one_time_code");
    }
    assert_eq!(app.authenticate(finishing(&tried, &code)).await.code(), "one_time_code_too_many_attempts");
    assert_eq!(named(&app, "radar.challenge_failed").await.len(), 6);
    let old = stop_again(&app, ALICE).await;
    let code = newest_code(&app).await;
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(app.authenticate(finishing(&old, &code)).await.code(), "invalid_pending_authentication_token");
});

both_engines!(row_33_of_16_at_once_with_the_right_code_one_gets_in, |app| async {
    challenge_new_devices(&app).await;
    let stopped = stopped(&app, ALICE).await;
    let code = newest_code(&app).await;
    let app = Arc::new(app);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (app, body) = (app.clone(), finishing(&stopped, &code));
        racers.spawn(async move { app.authenticate(body).await.status });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(named(&app, "session.created").await.len(), 2);
});

both_engines!(row_43_a_blocked_sign_in_is_answered_like_a_wrong_password, |app| async {
    app.user(ALICE, PASSWORD).await;
    let list = |entry: &'static str, list: &'static str| {
        let app = &app;
        async move { assert_eq!(app.api(Method::POST, &format!("/radar/lists/{list}"), json!({"entry": entry})).await.status, 204) }
    };
    list("192.0.2.0/24", "ip_address/block").await;
    let right = sign_in(&app, ALICE, PASSWORD, "::ffff:192.0.2.9").await;
    let wrong = sign_in(&app, ALICE, "not this password", "192.0.2.9").await;
    let nobody = sign_in(&app, "nobody@example.test", PASSWORD, "192.0.2.9").await;
    assert_eq!((right.status, right.code()), (400, "invalid_credentials"));
    for other in [&wrong, &nobody] {
        assert_eq!((right.status, &right.body), (other.status, &other.body));
    }
    let detected = &named(&app, "authentication.radar_risk_detected").await;
    assert_eq!((detected.len(), &detected[0]["control"], &detected[0]["blocklist_type"]), (1, &json!("block"), &json!("ip_address")));
    assert_eq!(named(&app, "radar.assessed").await.len(), 3, "those without the password are written down, too");
    assert_eq!(named(&app, "authentication.refused").await[0]["reason"], "radar");
    assert!(named(&app, "session.created").await.is_empty());

    // An app's back end that was put on no list is nobody's address, whatever header it brings.
    let forged = [(HeaderName::from_static("x-forwarded-for"), "192.0.2.9")];
    let body = json!({"grant_type": "password", "email": ALICE, "password": PASSWORD, "client_id": app.tenant.client_id, "client_secret": app.tenant.api_key});
    assert_eq!(app.with_headers(Method::POST, "/user_management/authenticate", body, &forged).await.status, 200);

    list("alice@example.test", "email/allow").await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.9").await.status, 200, "an allow list wins");
    let other = app.user("alice+x@example.test", PASSWORD).await;
    assert_eq!(other["email"], "alice+x@example.test");
    assert_eq!(sign_in(&app, "alice+x@example.test", PASSWORD, "192.0.2.9").await.status, 400, "and is for the one address alone");
});

both_engines!(row_42_failures_stop_strangers_and_never_the_owner_at_home, |app| async {
    app.settings(|settings| {
        settings.radar.brute_force_attack = Reaction::Challenge;
        settings.radar.account_failures = 3;
    })
    .await;
    app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    for at in 0..3 {
        assert_eq!(sign_in(&app, ALICE, "wrong password", &format!("203.0.113.{at}")).await.status, 400);
    }
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200, "known here");
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "203.0.113.9").await.code(), "radar_challenge");
    app.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "203.0.113.9").await.status, 200, "forgiven");
});

both_engines!(row_43_who_is_blocked_learns_nothing_from_a_policy_or_an_invitation, |app| async {
    let alice = app.user(ALICE, PASSWORD).await;
    let acme = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].clone();
    let member = json!({"user_id": alice["id"], "organization_id": acme});
    assert_eq!(app.api(Method::POST, "/user_management/organization_memberships", member).await.status, 201);
    let policy = format!("/organizations/{}/sign_in_policy", acme.as_str().unwrap());
    assert_eq!(app.api(Method::PUT, &policy, json!({"password": false})).await.status, 200);
    assert_eq!(app.api(Method::POST, "/radar/lists/ip_address/block", json!({"entry": "192.0.2.9"})).await.status, 204);
    let attempt = |password: &str, ip: &str, invitation: Value| {
        let body =
            json!({"grant_type": "password", "email": ALICE, "password": password, "ip_address": ip, "invitation_token": invitation});
        let app = &app;
        async move {
            tick(app);
            app.authenticate(body).await
        }
    };
    let wrong = attempt("not this password", "192.0.2.9", Value::Null).await;
    for invitation in [Value::Null, json!("made up")] {
        let blocked = attempt(PASSWORD, "192.0.2.9", invitation.clone()).await;
        assert_eq!((blocked.status, &blocked.body), (wrong.status, &wrong.body), "{invitation}");
    }
    // Others are told, and what was made of them is written down.
    let before = named(&app, "radar.assessed").await.len();
    app.settings(|settings| settings.radar.bot_detection = Reaction::Log).await;
    let robot =
        json!({"grant_type": "password", "email": ALICE, "password": PASSWORD, "user_agent": "curl/8.5.0", "invitation_token": "made up"});
    assert_eq!(app.authenticate(robot).await.code(), "invitation_invalid");
    assert_eq!(named(&app, "radar.assessed").await.len(), before + 1);
    assert_eq!(attempt(PASSWORD, "192.0.2.1", Value::Null).await.code(), "organization_authentication_methods_required");
});

both_engines!(row_42_what_neighbours_try_does_not_hold_up_the_owners_own_device, |app| async {
    app.settings(|settings| {
        settings.radar.brute_force_attack = Reaction::Block;
        (settings.radar.network_failures, settings.radar.network_accounts) = (6, 3);
    })
    .await;
    app.user(ALICE, PASSWORD).await;
    let attempt = |email: &str, password: &str, device: &str| {
        let body = json!({"grant_type": "password", "email": email, "password": password, "ip_address": "192.0.2.1", "user_agent": CHROME,
            "device_id": device});
        let app = &app;
        async move {
            tick(app);
            app.authenticate(body).await
        }
    };
    assert_eq!(attempt(ALICE, PASSWORD, "hers").await.status, 200);
    for at in 0..7 {
        assert_eq!(attempt(&format!("nobody{at}@example.test"), "wrong password", "theirs").await.status, 400);
    }
    assert_eq!(
        attempt(ALICE, PASSWORD, "theirs").await.code(),
        "invalid_credentials",
        "the same network and browser are a neighbour's, too"
    );
    assert_eq!(attempt(ALICE, PASSWORD, "hers").await.status, 200);
});

both_engines!(row_42_accounts_that_strangers_begin_do_not_keep_the_mailboxs_owner_out, |app| async {
    app.settings(|settings| settings.radar.repeat_sign_up = Reaction::Block).await;
    let begin = |email: &str, ip: &str| {
        let body = json!({"ip_address": ip, "user_agent": CHROME, "email": email, "auth_method": "Password", "action": "sign-up"});
        let app = &app;
        async move {
            tick(app);
            app.api(Method::POST, "/radar/attempts", body).await.body
        }
    };
    let first = begin("victim+1@example.test", "203.0.113.1").await;
    let second = begin("victim+2@example.test", "203.0.113.1").await;
    assert_eq!(begin("victim+3@example.test", "203.0.113.1").await["control"], "repeat_sign_up", "from where they were begun");
    assert_eq!(begin("victim@example.test", "192.0.2.1").await["verdict"], "allow");
    for attempt in [first, second] {
        let path = format!("/radar/attempts/{}", attempt["attempt_id"].as_str().unwrap());
        assert_eq!(app.api(Method::PUT, &path, json!({"attempt_status": "success"})).await.status, 204);
    }
    assert_eq!(begin("victim+4@example.test", "198.51.100.1").await["control"], "repeat_sign_up", "whose mailbox it is has been shown");
});

both_engines!(row_42_a_flood_is_one_however_many_sign_in_meanwhile, |app| async {
    app.settings(|settings| settings.radar.brute_force_attack = Reaction::Block).await;
    let verdict = || async {
        tick(&app);
        let body = json!({"ip_address": "192.0.2.1", "user_agent": CHROME, "email": ALICE, "auth_method": "SSO", "action": "sign-in"});
        app.api(Method::POST, "/radar/attempts", body).await.body["verdict"].clone()
    };
    let insert = |outcome, count: u64| {
        let (cx, environment, now) = (app.cx().clone(), app.tenant.environment.clone(), app.now());
        async move {
            let write = cx.db().write({
                let cx = cx.clone();
                move |tx| {
                    for at in 0..count {
                        let (id, keys) = (RadarAttemptId::mint(now, cx.rng()), Keys::default());
                        let row = AttemptRow {
                            id: &id,
                            keys: &keys,
                            action: Action::SignIn,
                            auth_method: "password",
                            verdict: "allow",
                            control: None,
                        };
                        store::insert(tx, &environment, &row, outcome, now.minus(Duration::from_millis(at * 240_000 / count)))?;
                    }
                    Ok::<_, gatewright_db::DbError>(())
                }
            });
            write.await.unwrap();
        }
    };
    insert(Outcome::Succeeded, 300).await;
    insert(Outcome::Failed, 1_100).await;
    assert_eq!(verdict().await, "allow", "fewer than four times the successes");
    insert(Outcome::Failed, 1_900).await;
    assert_eq!(verdict().await, "block");
});

both_engines!(an_account_that_slept_longer_than_the_journal_is_not_open_to_a_strange_device, |app| async {
    challenge_new_devices(&app).await;
    app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    app.clock.advance(Duration::from_secs(91 * 86_400));
    crate::run_jobs(app.cx()).await;
    stop_again(&app, ALICE).await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_written_down_also_when_no_code_can_be_sent() {
    let app = TestApp::start_with(On::Sqlite, |config| config.limits.enabled = true).await;
    challenge_new_devices(&app).await;
    stopped(&app, ALICE).await;
    let mut last = stop_again(&app, ALICE).await.status;
    let mut tries = 2;
    while last != 429 {
        last = sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.status;
        tries += 1;
        assert!(tries < 20);
    }
    assert_eq!(named(&app, "radar.assessed").await.len(), tries);
}

both_engines!(row_38_a_challenge_loses_neither_invitation_nor_second_factor, |app| async {
    let alice = app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    let path = format!("/user_management/users/{}/auth_factors", alice["id"].as_str().unwrap());
    let made = app.api(Method::POST, &path, json!({"type": "totp"})).await.body;
    let secret = totp::parse_secret(made["authentication_factor"]["totp"]["secret"].as_str().unwrap()).unwrap();
    let shown = |app: &TestApp| totp::code(&secret, totp::step_at(app.now())).reveal().clone();
    let path = format!("/auth/challenges/{}/verify", made["authentication_challenge"]["id"].as_str().unwrap());
    assert_eq!(app.api(Method::POST, &path, json!({"code": shown(&app)})).await.body["valid"], true);
    app.clock.advance(Duration::from_secs(30));
    let acme = app.api(Method::POST, "/organizations", json!({"name": "Acme"})).await.body["id"].clone();
    let invited = app.api(Method::POST, "/user_management/invitations", json!({"email": ALICE, "organization_id": acme})).await;
    assert_eq!(invited.status, 201, "{}", invited.text);
    challenge_new_devices(&app).await;

    tick(&app);
    let body = json!({"grant_type": "password", "email": ALICE, "password": PASSWORD, "ip_address": "198.51.100.1", "user_agent": CHROME,
        "invitation_token": invited.body["token"]});
    let stopped = app.authenticate(body).await;
    assert_eq!(stopped.code(), "radar_challenge", "{}", stopped.text);
    let waiting = app.authenticate(finishing(&stopped, &newest_code(&app).await)).await;
    assert_eq!((waiting.status, waiting.code()), (403, "mfa_challenge"), "{}", waiting.text);
    let factor = made["authentication_factor"]["id"].as_str().unwrap();
    let challenge = app.api(Method::POST, &format!("/auth/factors/{factor}/challenge"), json!({})).await.body["id"].clone();
    let answer = |token: &Value| {
        json!({"grant_type": "urn:workos:oauth:grant-type:mfa-totp", "code": shown(&app), "authentication_challenge_id": challenge,
            "pending_authentication_token": token})
    };
    let spent = app.authenticate(answer(&stopped.body["pending_authentication_token"])).await;
    assert_eq!(spent.code(), "invalid_pending_authentication_token");
    let members = format!("/user_management/organization_memberships?organization_id={}", acme.as_str().unwrap());
    assert_eq!(app.api(Method::GET, &members, Value::Null).await.body["data"], json!([]), "nothing is accepted half-way");
    let done = app.authenticate(answer(&waiting.body["pending_authentication_token"])).await;
    assert_eq!((done.status, &done.body["organization_id"]), (200, &acme), "{}", done.text);
    assert_eq!(
        sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.code(),
        "mfa_challenge",
        "the device is known, the factor still asked for"
    );
});

both_engines!(row_37_a_sign_up_counts_alike_whether_the_address_is_somebodys, |app| async {
    app.settings(|settings| {
        settings.radar.repeat_sign_up = Reaction::Block;
        settings.radar.network_sign_ups = 2;
    })
    .await;
    for email in [ALICE, BOB] {
        app.user(email, PASSWORD).await;
    }
    let sign_up = |email: &'static str| {
        let app = &app;
        async move {
            tick(app);
            let mut browser = browser(app);
            let first = browser.get(&(authorize(app) + "&screen_hint=sign-up")).await;
            let page = browser.follow(first).await;
            browser.submit(&page, "/sign-up", &[("email", email), ("password", PASSWORD)]).await
        }
    };
    for email in [ALICE, BOB] {
        assert_eq!(sign_up(email).await.status, 303, "{email}");
    }
    let third = sign_up("new@example.test").await;
    assert_eq!(third.status, 422, "as after two new ones: {}", third.text);
});

both_engines!(whoever_signs_up_again_and_again_needs_a_phone, |app| async {
    app.settings(|settings| settings.radar.repeat_sign_up = Reaction::Challenge).await;
    for email in ["m.allory@gmail.com", "mallory+1@gmail.com"] {
        app.user(email, PASSWORD).await;
        assert_eq!(sign_in(&app, email, PASSWORD, "192.0.2.1").await.status, 200, "{email}");
    }
    let third = app.user("mallory+2@googlemail.com", PASSWORD).await;
    let stopped = sign_in(&app, "mallory+2@googlemail.com", PASSWORD, "192.0.2.1").await;
    assert_eq!((stopped.status, stopped.code(), stopped.body.get("radar_challenge_id")), (403, "radar_sign_up_challenge", None));
    let send = |user: Value, token: Value, number: &'static str| {
        let body = json!({"user_id": user, "pending_authentication_token": token, "phone_number": number});
        let app = &app;
        async move {
            tick(app);
            app.api(Method::POST, "/user_management/radar_challenges", body).await
        }
    };
    let token = stopped.body["pending_authentication_token"].clone();
    assert_eq!(send(third["id"].clone(), token.clone(), "12").await.status, 422);
    assert_eq!(send(third["id"].clone(), json!("nonsense"), "+15555550123").await.code(), "invalid_pending_authentication_token");
    assert_eq!(send(json!("user_01JD8Q4ZK7ABCDEFGHJKMNPQRS"), token.clone(), "+15555550123").await.status, 404);
    let sent = send(third["id"].clone(), token.clone(), "+1 555 555 0123").await;
    assert_eq!((sent.status, sent.body["phone_number"].as_str()), (201, Some("+15555550123")), "{}", sent.text);
    let code = newest_code(&app).await;
    let finish = |id: Value, number: &str, code: &str| json!({"grant_type": BY_SMS, "code": code, "verification_id": id, "phone_number": number, "pending_authentication_token": token});
    let id = sent.body["verification_id"].clone();
    for body in [
        finish(id.clone(), "+15555550123", &wrong(&code)),
        finish(id.clone(), "+15555550199", &code),
        finish(json!("vrf_01JD8Q4ZK7ABCDEFGHJKMNPQRS"), "+15555550123", &code),
    ] {
        assert_eq!(app.authenticate(body).await.code(), "invalid_one_time_code");
    }
    let done = app.authenticate(finish(id, "+15555550123", &code)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(named(&app, "authentication.radar_risk_detected").await[0]["action"], "signup");
});

both_engines!(a_sign_up_that_was_stopped_is_one_the_day_after, |app| async {
    app.settings(|settings| settings.radar.repeat_sign_up = Reaction::Block).await;
    for email in ["mallory+1@example.test", "mallory+2@example.test"] {
        app.user(email, PASSWORD).await;
        assert_eq!(sign_in(&app, email, PASSWORD, "192.0.2.1").await.status, 200, "{email}");
    }
    app.user("mallory+3@example.test", PASSWORD).await;
    for _ in 0..2 {
        assert_eq!(sign_in(&app, "mallory+3@example.test", PASSWORD, "198.51.100.1").await.code(), "invalid_credentials");
        app.clock.advance(Duration::from_secs(25 * 3_600));
    }
    app.clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(sign_in(&app, "mallory+3@example.test", PASSWORD, "198.51.100.1").await.status, 200, "forgiven");
});

both_engines!(row_33_of_messages_sent_at_once_one_code_works, |app| async {
    app.settings(|settings| {
        settings.radar.repeat_sign_up = Reaction::Challenge;
        settings.radar.mailbox_sign_ups = 1;
    })
    .await;
    app.user("mallory+1@example.test", PASSWORD).await;
    assert_eq!(sign_in(&app, "mallory+1@example.test", PASSWORD, "192.0.2.1").await.status, 200);
    let user = app.user("mallory+2@example.test", PASSWORD).await["id"].clone();
    let stopped = sign_in(&app, "mallory+2@example.test", PASSWORD, "192.0.2.1").await;
    let app = Arc::new(app);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let token = stopped.body["pending_authentication_token"].clone();
        let body = json!({"user_id": user, "pending_authentication_token": token, "phone_number": "+15555550123"});
        let app = app.clone();
        racers.spawn(async move { app.api(Method::POST, "/user_management/radar_challenges", body).await.status });
    }
    assert!(racers.join_all().await.iter().all(|status| *status == 201));
    let open = "SELECT COUNT(*) FROM radar_challenges WHERE used_at IS NULL";
    assert_eq!(app.cx().db().read(|tx| tx.one(open, &[])?.int()).await.unwrap(), 1);
});

both_engines!(row_33_a_thief_of_the_password_cannot_name_their_own_phone, |app| async {
    challenge_new_devices(&app).await;
    let stopped = stopped(&app, ALICE).await;
    let body = json!({"user_id": stopped.body["user"]["id"], "pending_authentication_token": stopped.body["pending_authentication_token"],
        "phone_number": "+15555550123"});
    assert_eq!(app.api(Method::POST, "/user_management/radar_challenges", body.clone()).await.code(), "phone_number_not_allowed");
    assert_eq!(app.api_as(&app.other, Method::POST, "/user_management/radar_challenges", body).await.status, 404);
});

both_engines!(an_app_that_signs_people_in_by_itself_asks_and_tells, |app| async {
    app.settings(|settings| settings.radar.unrecognized_device = Reaction::Block).await;
    let ask = |ip: &str, user_agent: &str| {
        let body = json!({"ip_address": ip, "user_agent": user_agent, "email": ALICE, "auth_method": "SSO", "action": "sign-in"});
        let app = &app;
        async move {
            tick(app);
            app.api(Method::POST, "/radar/attempts", body).await
        }
    };
    let first = ask("192.0.2.1", CHROME).await;
    assert_eq!((first.status, &first.body["verdict"], &first.body["reason"]), (200, &json!("allow"), &json!("No risk detected")));
    assert_eq!((first.body.get("control"), first.body.get("blocklist_type")), (None, None));
    let path = format!("/radar/attempts/{}", first.body["attempt_id"].as_str().unwrap());
    assert_eq!(ask("198.51.100.1", CHROME).await.body["verdict"], "allow", "nobody said yet that anybody is in");
    let tell = |body: Value| {
        let (app, path) = (&app, &path);
        async move { app.api(Method::PUT, path, body).await.status }
    };
    assert_eq!(app.api_as(&app.other, Method::PUT, &path, json!({"attempt_status": "success"})).await.status, 404);
    assert_eq!(tell(json!({"attempt_status": "failure"})).await, 422);
    assert_eq!(tell(json!({"challenge_status": "success"})).await, 204);
    assert_eq!(tell(json!({"attempt_status": "success"})).await, 204);
    let second = ask("198.51.100.1", CHROME).await;
    assert_eq!((&second.body["verdict"], &second.body["control"]), (&json!("block"), &json!("unrecognized_device")));
    assert_eq!(ask("192.0.2.1", CHROME).await.body["verdict"], "allow");
    assert_eq!(ask("nowhere", CHROME).await.status, 422);
    assert_eq!(ask(&"9".repeat(100_000), CHROME).await.status, 422);
    let unknown = "/radar/attempts/radar_att_01JD8Q4ZK7ABCDEFGHJKMNPQRS";
    assert_eq!(app.api(Method::PUT, unknown, json!({})).await.status, 404);

    // A sign-in of ours may refer to it, if it is the same account's and environment's.
    app.user(ALICE, PASSWORD).await;
    app.sign_in(ALICE, PASSWORD).await;
    let refer = |id: &Value| json!({"grant_type": "password", "email": ALICE, "password": PASSWORD, "radar_auth_attempt_id": id});
    assert_eq!(app.authenticate(refer(&second.body["attempt_id"])).await.code(), "invalid_credentials", "from where it was assessed");
    assert_eq!(app.authenticate(refer(&first.body["attempt_id"])).await.status, 200);
    assert_eq!(app.authenticate(refer(&json!("radar_att_nonsense"))).await.status, 200);
    app.settings(|settings| settings.radar.standalone = false).await;
    assert_eq!(ask("192.0.2.1", CHROME).await.status, 400);
});

fn authorize(app: &TestApp) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={}&redirect_uri=http://localhost:8000/callback&provider=authkit",
        app.tenant.client_id
    )
}

fn hidden<'a>(page: &'a Answer, name: &str) -> &'a str {
    let (_, rest) = page.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap()
}

fn browser(app: &TestApp) -> Browser<'_> {
    let mut browser = app.browser();
    for (name, value) in [("user-agent", CHROME), ("accept-language", "en"), ("sec-fetch-mode", "navigate")] {
        browser.headers.push((HeaderName::from_static(name), value.to_owned()));
    }
    browser
}

both_engines!(the_page_asks_for_the_code_and_goes_on, |app| async {
    challenge_new_devices(&app).await;
    app.user(ALICE, PASSWORD).await;
    let mut home = browser(&app);
    let done = home.sign_in(&authorize(&app), ALICE, PASSWORD).await;
    assert!(done.location().is_some_and(|location| location.starts_with("http://localhost:8000/callback?code=")), "{}", done.text);

    let mut away = browser(&app);
    away.headers.retain(|(name, _)| name != "user-agent");
    away.headers
        .push((HeaderName::from_static("user-agent"), "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()));
    tick(&app);
    let stopped = away.sign_in(&authorize(&app), ALICE, PASSWORD).await;
    let page = away.follow(stopped).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("action=\"/confirm-sign-in\"") && page.text.contains(ALICE), "{}", page.text);
    let first = newest_code(&app).await;
    tick(&app);
    let sent = away.submit(&page, "/confirm-sign-in/send", &[]).await;
    let page = away.follow(sent).await;
    let code = newest_code(&app).await;
    for (typed, status) in [("", 422), (wrong(&code).as_str(), 422), (if first == code { "" } else { first.as_str() }, 422)] {
        let refused = away.submit(&page, "/confirm-sign-in", &[("code", typed)]).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert!(refused.text.contains("role=\"alert\""));
    }
    let done = away.submit(&page, "/confirm-sign-in", &[("code", &code)]).await;
    let code = done.location_parameter("code").unwrap_or_else(|| panic!("{} {}", done.status, done.text));
    assert_eq!(app.authenticate(json!({"grant_type": "authorization_code", "code": code})).await.status, 200);
    let known = away.sign_in(&(authorize(&app) + "&prompt=login"), ALICE, PASSWORD).await;
    assert!(known.location_parameter("code").is_some(), "{} {}", known.status, known.text);
    assert_eq!(named(&app, "radar.challenge_created").await.len(), 2);
});

both_engines!(row_38_a_challenged_browser_skips_no_step_and_nobody_else_goes_on_with_it, |app| async {
    challenge_new_devices(&app).await;
    app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    tick(&app);
    let mut browser = browser(&app);
    let stopped = browser.sign_in(&authorize(&app), ALICE, PASSWORD).await;
    let page = browser.follow(stopped).await;
    assert!(page.text.contains("action=\"/confirm-sign-in\""), "{}", page.text);
    let code = newest_code(&app).await;
    let form = [("csrf", hidden(&page, "csrf")), ("request", hidden(&page, "request"))];
    let given = [("code", code.as_str()), ("organization_id", "org_1"), ("factor", "auth_factor_1"), ("password", "wrong password")];
    for path in
        ["/mfa", "/mfa/enroll", "/mfa/recovery-codes", "/choose-organization", "/verify-email", "/sign-in/code", "/sign-in/password"]
    {
        let answer = browser.post(path, &[&form[..], &given[..]].concat()).await;
        let location = answer.location().unwrap_or_default();
        assert!(answer.status == 422 || answer.status == 400 || location.starts_with("/sign-in"), "{path}: {} {location}", answer.status);
    }
    let unasked = browser.get(&(authorize(&app) + "&prompt=none")).await;
    assert_eq!(unasked.location_parameter("error").as_deref(), Some("login_required"), "{}", unasked.text);
    // Another browser, with a form of its own and this one's request.
    let mut other = app.browser();
    let first = other.get(&authorize(&app)).await;
    let others = other.follow(first).await;
    let fields = [("csrf", hidden(&others, "csrf")), ("request", hidden(&page, "request")), ("code", code.as_str())];
    let refused = other.post("/confirm-sign-in", &fields).await;
    assert_eq!((refused.status, refused.location()), (403, None), "{}", refused.text);
    let done = browser.submit(&page, "/confirm-sign-in", &[("code", &code)]).await;
    assert!(done.location_parameter("code").is_some(), "{} {}", done.status, done.text);
    let again = browser.submit(&page, "/confirm-sign-in", &[("code", &code)]).await;
    assert_eq!(again.location(), None, "the code and the sign-in are used up");
});

both_engines!(row_43_a_blocked_person_sees_the_page_of_a_wrong_password, |app| async {
    app.user(ALICE, PASSWORD).await;
    assert_eq!(app.api(Method::POST, "/radar/lists/ip_address/block", json!({"entry": "127.0.0.1"})).await.status, 204);
    let mut pages = Vec::new();
    for (email, password) in [(ALICE, PASSWORD), (ALICE, "wrong password"), ("alize@example.test", PASSWORD)] {
        let mut browser = browser(&app);
        // Only a proxy that was named is believed.
        browser.headers.push((HeaderName::from_static("x-forwarded-for"), "203.0.113.1".to_owned()));
        let answer = browser.sign_in(&authorize(&app), email, password).await;
        let title =
            answer.text.split_once("<strong>").and_then(|(_, rest)| rest.split_once("</strong>")).map(|(title, _)| title.to_owned());
        pages.push((answer.status, title.unwrap_or_else(|| panic!("{} {}", answer.status, answer.text))));
    }
    assert!(pages.iter().all(|page| page.0 == 422 && *page == pages[0]), "{pages:?}");
    let mut sign_ups = Vec::new();
    for email in [ALICE, "new@example.test"] {
        let mut browser = browser(&app);
        let first = browser.get(&(authorize(&app) + "&screen_hint=sign-up")).await;
        let page = browser.follow(first).await;
        let refused = browser.submit(&page, "/sign-up", &[("email", email), ("password", PASSWORD)]).await;
        assert!(refused.text.contains("We could not create this account"), "{}", refused.text);
        sign_ups.push(refused.status);
    }
    assert_eq!(sign_ups, [422, 422]);
    assert_eq!(named(&app, "user.created").await.len(), 1, "no account was made");
    assert!(named(&app, "session.created").await.is_empty());
});

both_engines!(a_user_is_told_of_a_new_device_where_the_environment_says_so, |app| async {
    app.settings(|settings| settings.radar.notify_new_device = true).await;
    app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    assert!(app.mails().await.is_empty(), "the first device of all is no news");
    assert_eq!(sign_in(&app, ALICE, "wrong password", "198.51.100.1").await.status, 400);
    assert!(app.mails().await.is_empty(), "who does not know the password is told nothing, and nobody of them");
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.status, 200);
    let mails = app.mails().await;
    assert_eq!((mails.len(), mails[0].to.as_str()), (1, ALICE));
    assert!(mails[0].links.iter().any(|link| link.ends_with("/forgot-password")), "{:?}", mails[0].links);
    // Who has to confirm it first gets the mail that asks, and none that says it is done.
    challenge_new_devices(&app).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "203.0.113.1").await.code(), "radar_challenge");
    let mails = app.mails().await;
    assert_eq!((mails.len(), mails[0].code.is_some()), (2, true));
});

both_engines!(the_journal_forgets, |app| async {
    app.user(ALICE, PASSWORD).await;
    challenge_new_devices(&app).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    assert_eq!(sign_in(&app, ALICE, "wrong password", "192.0.2.1").await.status, 400);
    let count = || async {
        let rows = app.cx().db().scan(|tx| tx.list("SELECT outcome FROM radar_attempts ORDER BY outcome", &[])).await.unwrap();
        rows.into_iter().map(|mut row| row.text().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(count().await, ["failed", "succeeded"]);
    app.clock.advance(Duration::from_secs(8 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!(count().await, ["succeeded"]);
    app.clock.advance(Duration::from_secs(90 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert!(count().await.is_empty());
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_and_disposable_domains_come_from_the_operators_files() {
    let mut places = tempfile::NamedTempFile::new().unwrap();
    places.write_all(b"network,country,latitude,longitude\n192.0.2.0/24,DE,52.5,13.4\n198.51.100.0/24,AU,-33.9,151.2\n").unwrap();
    let mut domains = tempfile::NamedTempFile::new().unwrap();
    domains.write_all("# thrown away\nthrowaway.example\nbücher.example # one more\n".as_bytes()).unwrap();
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.radar.places_file = Some(places.path().to_owned());
        config.radar.disposable_domains_file = Some(domains.path().to_owned());
    })
    .await;
    app.settings(|settings| {
        settings.radar.impossible_travel = Reaction::Challenge;
        settings.radar.disposable_domains = Reaction::Block;
    })
    .await;
    app.user(ALICE, PASSWORD).await;
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.status, 200);
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.code(), "radar_challenge");
    app.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "198.51.100.1").await.status, 200, "a day is enough for the way");
    assert_eq!(app.api(Method::POST, "/radar/lists/country/block", json!({"entry": "de"})).await.status, 204);
    assert_eq!(sign_in(&app, ALICE, PASSWORD, "192.0.2.1").await.code(), "invalid_credentials");
    for email in ["a@throwaway.example", "a@mail.throwaway.example", "a@xn--bcher-kva.example"] {
        app.user(email, PASSWORD).await;
        assert_eq!(sign_in(&app, email, PASSWORD, "203.0.113.1").await.code(), "invalid_credentials", "{email}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_messages_of_a_sign_up_are_few_for_a_number_and_for_a_user() {
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.messages_per_number = 1;
    })
    .await;
    app.settings(|settings| settings.radar.repeat_sign_up = Reaction::Challenge).await;
    for email in ["m.allory@gmail.com", "mallory+1@gmail.com"] {
        app.user(email, PASSWORD).await;
        assert_eq!(sign_in(&app, email, PASSWORD, "192.0.2.1").await.status, 200, "{email}");
    }
    let third = app.user("mallory+2@googlemail.com", PASSWORD).await;
    let stopped = sign_in(&app, "mallory+2@googlemail.com", PASSWORD, "192.0.2.1").await;
    let token = &stopped.body["pending_authentication_token"];
    let mut statuses = Vec::new();
    for number in ["00", "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10"] {
        tick(&app);
        let body = json!({"user_id": third["id"], "pending_authentication_token": token, "phone_number": format!("+155555501{number}")});
        statuses.push(app.api(Method::POST, "/user_management/radar_challenges", body).await.status);
    }
    assert_eq!(statuses, [201, 429, 201, 201, 201, 201, 201, 201, 201, 201, 201, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_42_codes_of_a_stopped_sign_in_are_guessed_a_few_times_from_one_network() {
    let app = TestApp::start_with(On::Sqlite, |config| {
        config.limits.enabled = true;
        config.limits.hosted_per_ip = 6;
        config.challenge.provider = crate::platform::config::ChallengeProvider::Off;
    })
    .await;
    challenge_new_devices(&app).await;
    app.user(ALICE, PASSWORD).await;
    browser(&app).sign_in(&authorize(&app), ALICE, PASSWORD).await;
    app.clock.advance(Duration::from_secs(61));
    let mut away = browser(&app);
    away.headers.retain(|(name, _)| name != "user-agent");
    away.headers
        .push((HeaderName::from_static("user-agent"), "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()));
    let stopped = away.sign_in(&authorize(&app), ALICE, PASSWORD).await;
    let page = away.follow(stopped).await;
    let guess = wrong(&newest_code(&app).await);
    app.clock.advance(Duration::from_secs(61));
    for status in [422, 422, 422, 422, 422, 422, 429] {
        assert_eq!(away.submit(&page, "/confirm-sign-in", &[("code", &guess)]).await.status, status);
    }
}
