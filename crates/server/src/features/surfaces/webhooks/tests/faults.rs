//! Receivers as they are: down, slow, closing early, erratic, redirecting. Time is virtual.

use std::net::IpAddr;

use super::*;
use crate::features::surfaces::webhooks::DeliveryId;
use crate::features::surfaces::webhooks::store;
use crate::platform::actor::Actor;
use crate::platform::events::Event;
use crate::testkit::On;

both_engines!(f15_a_receiver_that_is_down_six_hours_gets_everything_in_order_and_others_notice_nothing, |app| async move {
    let (broken, fine) = (Receiver::start(Behaviour::Answer(503)).await, Receiver::start(Behaviour::Answer(200)).await);
    let (id, secret) = endpoint(&app, &broken.url).await;
    endpoint(&app, &fine.url).await;
    let acme = organization(&app, "acme 0").await;
    let beta = organization(&app, "beta 0").await;
    deliver(&app).await;
    for hour in 1..=6 {
        rename(&app, &acme, &format!("acme {hour}")).await;
        if hour == 3 {
            rename(&app, &beta, "beta 1").await;
        }
        let sent = fine.got().len();
        deliver(&app).await;
        assert!(fine.got().len() > sent, "the other endpoint is told at once");
        for _ in 0..60 {
            app.clock.advance(Duration::from_secs(60));
            deliver(&app).await;
        }
    }
    assert!(broken.accepted().is_empty());
    // While the first event of an object is retried, no later one of it is tried.
    assert!(history(&broken.got(), &acme).iter().all(|name| name == "acme 0"));
    broken.behave(Behaviour::Answer(200));
    for _ in 0..130 {
        app.clock.advance(Duration::from_secs(60));
        deliver(&app).await;
    }
    let expected: Vec<String> = (0..=6).map(|hour| format!("acme {hour}")).collect();
    for receiver in [&broken, &fine] {
        assert_eq!(history(&receiver.accepted(), &acme), expected);
        assert_eq!(history(&receiver.accepted(), &beta), ["beta 0", "beta 1"]);
    }
    assert_eq!(fine.got().len(), 9);
    let last = broken.accepted().pop().unwrap();
    assert!(is_signed(&secret, &last, &last.headers["workos-signature"]));
    assert!(log(&app, &id).await.iter().all(|delivery| delivery["status"] == "delivered"));
});

both_engines!(a_receiver_that_fails_at_random_gets_everything_in_order, |app| async move {
    let (erratic, fine) = (Receiver::start(Behaviour::Erratic).await, Receiver::start(Behaviour::Answer(200)).await);
    endpoint(&app, &erratic.url).await;
    endpoint(&app, &fine.url).await;
    let mut organizations = Vec::new();
    for at in 0..6 {
        organizations.push(organization(&app, &format!("{at} 0")).await);
    }
    for change in 1..=5 {
        for (at, id) in organizations.iter().enumerate() {
            rename(&app, id, &format!("{at} {change}")).await;
        }
        deliver(&app).await;
    }
    for _ in 0..40 {
        wait_out(&app).await;
        if erratic.accepted().len() >= 36 {
            break;
        }
    }
    for (at, id) in organizations.iter().enumerate() {
        let expected: Vec<String> = (0..=5).map(|change| format!("{at} {change}")).collect();
        let mut accepted = history(&erratic.accepted(), id);
        // At least once: what was accepted in an answer that broke off came again.
        accepted.dedup();
        assert_eq!(accepted, expected);
        assert_eq!(history(&fine.got(), id), expected);
    }
    assert!(erratic.got().len() > 36, "it did fail");
});

both_engines!(a_receiver_that_stalls_holds_up_nobody, |app| async move {
    let (slow, fine) = (Receiver::start(Behaviour::Stall).await, Receiver::start(Behaviour::Answer(200)).await);
    endpoint(&app, &slow.url).await;
    endpoint(&app, &fine.url).await;
    let acme = organization(&app, "0").await;
    order(&app).await;
    let cx = app.cx().clone();
    let driving = tokio::spawn(async move { drive(&cx).await });
    slow.reached(1).await;
    fine.reached(1).await;
    // What happens while the slow one has our request reaches the other all the same.
    for at in 1..=5_usize {
        rename(&app, &acme, &at.to_string()).await;
        order(&app).await;
        fine.reached(at + 1).await;
    }
    assert_eq!(slow.got().len(), 1);
    slow.release();
    driving.await.unwrap().unwrap();
    deliver(&app).await;
    assert_eq!(history(&fine.got(), &acme), history(&slow.got(), &acme));
    assert_eq!(slow.got().len(), 6);
});

both_engines!(row_68_a_redirect_to_a_private_address_is_a_failed_try, |app| async move {
    let receiver = Receiver::start(Behaviour::Redirect("http://169.254.169.254/latest/meta-data/")).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    let first = &log(&app, &id).await[0];
    assert_eq!((&first["status"], &first["attempt_count"]), (&json!("pending"), &json!(1)));
    assert!(app.network.connected().iter().all(|to| to.ip().is_loopback()), "{:?}", app.network.connected());
    receiver.behave(Behaviour::Answer(200));
    wait_out(&app).await;
    assert_eq!(log(&app, &id).await[0]["status"], "delivered");
});

both_engines!(row_68_a_name_that_becomes_private_is_not_asked_any_more, |app| async move {
    app.network.publish_changing("hooks.acme.test", &[&["93.184.215.14"], &["10.0.0.5"]]);
    let (id, _) = endpoint(&app, "https://hooks.acme.test/hook").await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    wait_out(&app).await;
    let public: IpAddr = "93.184.215.14".parse().unwrap();
    assert_eq!(app.network.connected().iter().map(|to| to.ip()).collect::<Vec<_>>(), [public]);
    let delivery = log(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
    let details = app.api(Method::GET, &format!("/webhook_endpoints/{id}/deliveries/{delivery}"), Value::Null).await;
    let errors: Vec<&str> = details.body["attempts"].as_array().unwrap().iter().map(|try_| try_["error"].as_str().unwrap()).collect();
    assert_eq!(errors, [&["unreachable"][..], &["private_address"; 6]].concat());
});

both_engines!(what_was_tried_seven_times_is_given_up_and_the_next_about_the_object_goes, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    let acme = organization(&app, "0").await;
    rename(&app, &acme, "1").await;
    deliver(&app).await;
    for (tries, seconds) in [(1, 60), (2, 600), (3, 3_600), (4, 21_600), (5, 86_400), (6, 147_600)] {
        assert_eq!(receiver.got().len(), tries);
        app.clock.advance(Duration::from_secs(seconds - 1));
        deliver(&app).await;
        assert_eq!(receiver.got().len(), tries, "not a second early");
        if tries == 6 {
            receiver.behave(Behaviour::Check(|got, _| got.facts().2 != "0", String::new()));
        }
        app.clock.advance(Duration::from_secs(1));
        deliver(&app).await;
    }
    assert_eq!((receiver.got().len(), names(&receiver.accepted())), (8, vec!["1".to_owned()]));
    let statuses: Vec<Value> = log(&app, &id).await.into_iter().map(|delivery| delivery["status"].clone()).collect();
    assert_eq!(statuses, ["delivered", "failed"]);
});

both_engines!(of_64_workers_one_tries_a_delivery, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    endpoint(&app, &receiver.url).await;
    for at in 0..20 {
        organization(&app, &at.to_string()).await;
    }
    order(&app).await;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let cx = app.cx().clone();
        workers.spawn(async move { drive(&cx).await.unwrap() });
    }
    workers.join_all().await;
    deliver(&app).await;
    let mut names = names(&receiver.got());
    names.sort_by_key(|name| name.parse::<u32>().unwrap());
    assert_eq!(names, (0..20).map(|at| at.to_string()).collect::<Vec<_>>());
});

both_engines!(a_worker_that_died_in_a_try_loses_nothing, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    receiver.behave(Behaviour::Answer(200));
    app.clock.advance(Duration::from_secs(60));
    let delivery = DeliveryId::from_text(log(&app, &id).await[0]["id"].as_str().unwrap());
    let (environment, now) = (app.tenant.environment.clone(), app.now());
    let lapses = now.plus(Duration::from_secs(50));
    let (first, second) = app
        .cx()
        .db()
        .write(move |tx| {
            Ok::<_, gatewright_db::DbError>((
                store::claim(tx, &environment, &delivery, now, lapses)?,
                store::claim(tx, &environment, &delivery, now, lapses)?,
            ))
        })
        .await
        .unwrap();
    assert!(first.is_some() && second.is_none());
    deliver(&app).await;
    assert_eq!(receiver.got().len(), 1, "somebody else has it");
    app.clock.advance(Duration::from_secs(50));
    deliver(&app).await;
    assert_eq!(receiver.accepted().len(), 1);
    // The dead one comes back to life and says that its try failed.
    let (environment, claimed) = (app.tenant.environment.clone(), first.unwrap());
    let late = app.cx().db().write(move |tx| store::mark_retried(tx, &environment, &claimed, now)).await.unwrap();
    assert_eq!(late, None);
    assert_eq!(log(&app, &id).await[0]["status"], "delivered");
});

both_engines!(a_dead_endpoint_with_much_to_tell_leaves_room_for_the_others, |app| async move {
    let dead = Receiver::start(Behaviour::Stall).await;
    let fine = Receiver::start(Behaviour::Answer(200)).await;
    for at in 0..20 {
        endpoint(&app, &format!("{}?{at}", dead.url)).await;
    }
    endpoint(&app, &fine.url).await;
    for at in 0..10 {
        organization(&app, &at.to_string()).await;
    }
    order(&app).await;
    let cx = app.cx().clone();
    let driving = tokio::spawn(async move { drive(&cx).await });
    fine.reached(10).await;
    assert!(dead.got().len() <= 20, "an endpoint that has not answered yet has one try under way: {}", dead.got().len());
    dead.release();
    driving.await.unwrap().unwrap();
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_were_given_up_keep_no_place_from_one_that_is_to_be_tried_again() {
    let app = TestApp::start_with(On::Sqlite, |config| config.webhooks.at_once = 4).await;
    let dead = Receiver::start(Behaviour::Answer(500)).await;
    let mut given_up = Vec::new();
    for at in 0..6 {
        given_up.push(endpoint(&app, &format!("{}?{at}", dead.url)).await.0);
    }
    organization(&app, "First").await;
    deliver(&app).await;
    wait_out(&app).await;
    for id in &given_up {
        assert_eq!(log(&app, id).await[0]["status"], "failed");
        // From here on they have nothing due, and have still not answered since their last try.
        let changed = app.api(Method::PATCH, &format!("/webhook_endpoints/{id}"), json!({"events": []})).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    }
    let late = Receiver::start(Behaviour::Answer(500)).await;
    endpoint(&app, &late.url).await;
    organization(&app, "Second").await;
    deliver(&app).await;
    assert_eq!((late.got().len(), late.accepted().len()), (1, 0));
    late.behave(Behaviour::Answer(200));
    app.clock.advance(Duration::from_secs(60));
    deliver(&app).await;
    assert_eq!(names(&late.accepted()), ["Second"]);
}

both_engines!(who_is_far_behind_catches_up_in_steps_and_misses_nothing, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    endpoint(&app, &receiver.url).await;
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    // More than are looked at in one go, and nothing that was asked for until the end.
    let written = app.cx().db().write(move |tx| {
        for number in 0..1_200 {
            let name = if number == 1_199 { "organization.created" } else { "user.created" };
            let data = json!({"id": format!("org_{number}"), "name": number.to_string()});
            scribe.record(tx, &environment, &Event::new(name, data))?;
        }
        Ok::<_, gatewright_db::DbError>(())
    });
    written.await.unwrap();
    deliver(&app).await;
    assert_eq!(names(&receiver.got()), ["1199"]);
});
