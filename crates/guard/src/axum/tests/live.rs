//! What stays open, and what the server is told of refusals.

use std::sync::Arc;

use super::*;
use crate::axum::until_revoked;
use crate::feed::tests::feed::{FEED, Feed, revocation};
use crate::feed::{Guard, Stats};

const SESSIONS: &str = "/user_management/users/user_1/sessions";
const DENIALS: &str = "/guard/denied_requests";
/// The guard's clock stands still unless it is told to go on: a look is made whenever it is.
const SOON: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Watches whoever calls, in a task of its own.
async fn watch(world: &World, headers: (&str, &str), interval: Duration) -> tokio::task::JoinHandle<String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let open = move |caller: Caller, guard: Guard| {
        let watching = tokio::spawn(until_revoked(guard, caller.0, interval));
        drop(tell.lock().unwrap().take().unwrap().send(watching));
        async { inside("open") }
    };
    let app = Router::new().route("/", get(open)).layer(guarded(world.guard.clone()));
    assert_eq!(ask(&app, "/", headers).await.status, 200);
    told.await.unwrap()
}

async fn ends_within(watching: tokio::task::JoinHandle<String>, within: Duration) -> String {
    tokio::time::timeout(within, watching).await.expect("it has ended").unwrap()
}

fn wait_until_live(world: &World) {
    world.wait_for("the feed", |stats: &Stats| stats.feed_live == 1);
}

/// Lets time pass until the server has been asked so often.
async fn pass_until_looked(world: &World, looks: u64) {
    let began = std::time::Instant::now();
    while world.guard.stats().freshness_checks < looks {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", world.guard.stats());
        world.seconds_pass(1);
        tokio::time::sleep(SOON * 2).await;
    }
}

fn list(world: &World, sessions: &'static [&str]) {
    let data: Vec<_> = sessions.iter().map(|id| json!({ "id": id, "status": "active" })).collect();
    let body = json!({ "object": "list", "data": data, "list_metadata": {} });
    world.server.on_path(SESSIONS, move |_| ok(&body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_ends_within_a_second_of_the_revocation() {
    let world = World::new();
    let feed = Feed::on(&world.server);
    let bearer = bearer(&world);
    let cookie = valid_cookie(&world);
    let watching = [watch(&world, ("authorization", &bearer), HOUR).await, watch(&world, ("cookie", &cookie), HOUR).await];
    wait_until_live(&world);
    assert!(watching.iter().all(|one| !one.is_finished()));
    feed.publish(revocation("session", "session_1"));
    for one in watching {
        assert_eq!(ends_within(one, Duration::from_secs(1)).await, "The credential has been revoked.");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_word_the_server_is_asked_and_one_that_is_away_ends_nothing_at_once() {
    let world = World::new();
    world.server.on_path(FEED, |_| Does::Answer(404, String::new()));
    list(&world, &["session_1"]);
    let cookie = valid_cookie(&world);
    let watching = watch(&world, ("cookie", &cookie), SOON).await;
    pass_until_looked(&world, 2).await;
    world.server.on_path(SESSIONS, |_| Does::Answer(500, String::new()));
    let looks = world.guard.stats().freshness_checks;
    pass_until_looked(&world, looks + 2).await;
    assert!(!watching.is_finished());
    list(&world, &["session_2"]);
    for _ in 0..100 {
        world.seconds_pass(1);
        tokio::time::sleep(SOON).await;
        if watching.is_finished() {
            break;
        }
    }
    assert_eq!(ends_within(watching, Duration::from_secs(2)).await, "The session has ended. Sign in again.");

    let world = World::new();
    list(&world, &["session_1"]);
    let cookie = valid_cookie(&world);
    let watching = watch(&world, ("cookie", &cookie), SOON).await;
    world.server.on_path(SESSIONS, |_| Does::Answer(500, String::new()));
    // Its token has expired, and nobody has confirmed the session for too long.
    world.seconds_pass(700);
    assert_eq!(ends_within(watching, Duration::from_secs(2)).await, "The credential cannot be checked right now. Try again shortly.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_expiry() {
    let world = World::new();
    let bearer = bearer(&world);
    let watching = watch(&world, ("authorization", &bearer), SOON).await;
    list(&world, &["session_1"]);
    pass_until_looked(&world, 1).await;
    assert!(!watching.is_finished());
    world.seconds_pass(3600);
    assert_eq!(ends_within(watching, Duration::from_secs(2)).await, "The access token has expired.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_told_to_the_server_and_what_is_let_in_is_not() {
    let world = World::new();
    world.server.on_path(DENIALS, |_| Does::Answer(202, "{}".to_owned()));
    let rule = require(Requirement { permissions: vec!["a".into()], ..Requirement::default() }).organization_in_path("org");
    let app = extractors()
        .merge(Router::new().route("/orgs/{org}/notes", get(|| async { inside("in") })).route_layer(rule))
        .layer(guarded(world.guard.clone()));
    let bearer = bearer(&world);
    for _ in 0..3 {
        assert_eq!(ask(&app, "/orgs/org_secret/notes?token=x", ("authorization", &bearer)).await.status, 403);
    }
    assert_eq!(ask(&app, "/user", ("x-other", "1")).await.status, 401);
    assert_eq!(ask(&app, "/maybe/user", ("x-other", "1")).await.status, 200);
    assert_eq!(ask(&app, "/maybe/user", ("cookie", "wos_session=garbage")).await.status, 200);
    assert_eq!(ask(&app, "/user", ("authorization", &bearer)).await.status, 200);
    world.wait_for("reports", |stats: &Stats| stats.denials_reported == 4);
    let body = world.server.asked().into_iter().find(|asked| asked.path == DENIALS).unwrap().json();
    let mut told: Vec<_> = body["denied_requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            (text("path"), one["count"].as_u64().unwrap(), text("reason"), text("user_id"))
        })
        .collect();
    told.sort();
    let expected = [("/orgs/{org}/notes", 3, "no_organization", "user_1"), ("/user", 1, "no_credential", "")];
    assert_eq!(told, expected.map(|(path, count, reason, user)| (path.to_owned(), count, reason.to_owned(), user.to_owned())));
}
