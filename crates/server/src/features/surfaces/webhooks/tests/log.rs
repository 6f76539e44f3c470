//! The log of deliveries, and their replay.

use super::*;

both_engines!(the_log_tells_every_try, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(500)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    let started = app.now();
    receiver.behave(Behaviour::CloseEarly);
    app.clock.advance(Duration::from_secs(60));
    deliver(&app).await;
    let pending = log(&app, &id).await.remove(0);
    let next = app.now().plus(Duration::from_secs(600)).to_string();
    assert_eq!((&pending["status"], &pending["attempt_count"], &pending["next_attempt_at"]), (&json!("pending"), &json!(2), &json!(next)));
    receiver.behave(Behaviour::Answer(202));
    app.clock.advance(Duration::from_secs(600));
    deliver(&app).await;

    let path = format!("/webhook_endpoints/{id}/deliveries/{}", pending["id"].as_str().unwrap());
    let details = app.api(Method::GET, &path, Value::Null).await;
    assert_eq!(details.status, 200, "{}", details.text);
    assert_eq!((&details.body["object"], &details.body["webhook_endpoint_id"]), (&json!("webhook_delivery"), &json!(id)));
    assert_eq!((&details.body["status"], &details.body["next_attempt_at"]), (&json!("delivered"), &Value::Null));
    assert_eq!((&details.body["finished_at"], &details.body["replay_of"]), (&json!(app.now().to_string()), &Value::Null));
    let first = json!({"number": 1, "started_at": started.to_string(), "duration_ms": 0, "status_code": 500, "error": null,
        "response_body": "note", "signed_with": "current"});
    assert_eq!(details.body["attempts"][0], first);
    let told: Vec<(Value, Value)> =
        details.body["attempts"].as_array().unwrap().iter().map(|one| (one["status_code"].clone(), one["error"].clone())).collect();
    assert_eq!(told, [(json!(500), Value::Null), (Value::Null, json!("connection_broken")), (json!(202), Value::Null)]);
});

both_engines!(the_log_is_listed_by_status_and_in_pages, |app| async move {
    let receiver = Receiver::start(Behaviour::Check(|got, _| got.facts().2 != "bad", String::new())).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    for name in ["1", "2", "bad", "3"] {
        organization(&app, name).await;
    }
    deliver(&app).await;
    let list = async |query: &str| {
        let list = app.api(Method::GET, &format!("/webhook_endpoints/{id}/deliveries?{query}"), Value::Null).await;
        assert_eq!(list.status, 200, "{}", list.text);
        list
    };
    let count = |list: &crate::testkit::Answer| list.body["data"].as_array().unwrap().len();
    for (query, expected) in
        [("", 4), ("status=delivered", 3), ("status=pending", 1), ("status=failed", 0), ("status=delivered&order=asc", 3)]
    {
        assert_eq!(count(&list(query).await), expected, "{query}");
    }
    wait_out(&app).await;
    assert_eq!((count(&list("status=failed").await), count(&list("status=pending").await)), (1, 0));
    let page = list("limit=3&order=asc").await;
    let after = page.body["list_metadata"]["after"].as_str().unwrap();
    assert_eq!(count(&list(&format!("limit=3&order=asc&after={after}")).await), 1);
    for query in ["status=lost", "limit=0", "order=x"] {
        let refused = app.api(Method::GET, &format!("/webhook_endpoints/{id}/deliveries?{query}"), Value::Null).await;
        assert_eq!(refused.status, 422, "{query}");
    }
});

both_engines!(a_replay_sends_the_same_event_once_more, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    let (id, secret) = endpoint(&app, &receiver.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    let original = log(&app, &id).await.remove(0);
    app.clock.advance(Duration::from_secs(86_400));
    let path = format!("/webhook_endpoints/{id}/deliveries/{}/replay", original["id"].as_str().unwrap());
    let replayed = app.api(Method::POST, &path, Value::Null).await;
    assert_eq!(replayed.status, 201, "{}", replayed.text);
    assert_eq!((&replayed.body["replay_of"], &replayed.body["event_id"]), (&original["id"], &original["event_id"]));
    assert_eq!(replayed.body["status"], "pending");
    deliver(&app).await;
    let got = receiver.got();
    assert_eq!((got.len(), got[0].body == got[1].body), (2, true));
    assert!(webhook::verify(&secret, got[1].body.as_bytes(), &got[1].headers["workos-signature"], app.now(), 0));

    app.api(Method::PATCH, &format!("/webhook_endpoints/{id}"), json!({"status": "disabled"})).await;
    let refused = app.api(Method::POST, &path, Value::Null).await;
    assert_eq!((refused.status, refused.code()), (409, "webhook_endpoint_disabled"));
    app.api(Method::PATCH, &format!("/webhook_endpoints/{id}"), json!({"status": "enabled"})).await;
    app.cx().db().write(|tx| tx.execute("DELETE FROM events WHERE event = 'organization.created'", &[])).await.unwrap();
    let refused = app.api(Method::POST, &path, Value::Null).await;
    assert_eq!((refused.status, refused.code()), (409, "event_expired"));
});

both_engines!(a_delivery_is_found_at_its_own_endpoint_in_its_own_environment_only, |app| async move {
    let receiver = Receiver::start(Behaviour::Answer(200)).await;
    let (id, _) = endpoint(&app, &receiver.url).await;
    let (neighbour, _) = endpoint(&app, &format!("{}?2", receiver.url)).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    let delivery = log(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
    let told = receiver.got().len();
    for (tenant, endpoint, delivery) in [
        (&app.other, id.as_str(), delivery.as_str()),
        (&app.tenant, neighbour.as_str(), delivery.as_str()),
        (&app.tenant, id.as_str(), "webhook_delivery_unknown"),
        (&app.tenant, "we_unknown", delivery.as_str()),
    ] {
        let path = format!("/webhook_endpoints/{endpoint}/deliveries/{delivery}");
        for (method, path) in [(Method::GET, path.clone()), (Method::POST, format!("{path}/replay"))] {
            let refused = app.api_as(tenant, method, &path, Value::Null).await;
            assert_eq!((refused.status, refused.code()), (404, "entity_not_found"), "{path}");
        }
    }
    let refused = app.api_as(&app.other, Method::GET, &format!("/webhook_endpoints/{id}/deliveries"), Value::Null).await;
    assert_eq!((refused.status, refused.code()), (404, "entity_not_found"));
    deliver(&app).await;
    assert_eq!(receiver.got().len(), told);
});

both_engines!(the_log_forgets_what_ended_long_ago, |app| async move {
    let (broken, fine) = (Receiver::start(Behaviour::Answer(500)).await, Receiver::start(Behaviour::Answer(200)).await);
    let (pending, _) = endpoint(&app, &broken.url).await;
    let (ended, _) = endpoint(&app, &fine.url).await;
    organization(&app, "Acme").await;
    deliver(&app).await;
    app.clock.advance(Duration::from_secs(29 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!((log(&app, &pending).await.len(), log(&app, &ended).await.len()), (1, 1));
    app.clock.advance(Duration::from_secs(2 * 86_400));
    crate::run_jobs(app.cx()).await;
    assert_eq!((log(&app, &pending).await.len(), log(&app, &ended).await.len()), (1, 0));
});
