use std::sync::Arc;
use std::time::Duration;

use gatewright_base::Timestamp;
use gatewright_db::{DbError, params};
use tokio::sync::broadcast::error::RecvError;

use super::{
    Kind, LONGEST_TOKEN_SECONDS, News, Revocation, RevocationRow, TokenLifetime, bring_up, insert, list_after, list_told_after, store,
};
use crate::both_engines;
use crate::platform::actor::Actor;
use crate::testkit::TestApp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

#[test]
fn a_lowered_lifetime_leaves_the_longer_one_in_force_until_its_last_token_has_expired() {
    let known = |seconds, earlier_seconds, until| TokenLifetime { seconds, earlier_seconds, earlier_until: at(until) };
    for (before, to, now, after) in [
        (known(300, 0, 0), 300, 1_000, known(300, 0, 0)),
        (known(300, 0, 0), 3_600, 1_000, known(3_600, 0, 0)),
        (known(3_600, 0, 0), 300, 1_000, known(300, 3_600, 4_600)),
        // Lowered twice: the first tokens count to their own end.
        (known(300, 3_600, 4_600), 60, 1_100, known(60, 3_600, 4_700)),
        (known(300, 3_600, 4_600), 60, 4_600, known(60, 300, 4_900)),
        // Raised beyond the earlier one: nothing earlier is longer.
        (known(300, 3_600, 4_600), 7_200, 1_100, known(7_200, 0, 0)),
        (known(300, 3_600, 4_600), 600, 1_100, known(600, 3_600, 4_700)),
        (TokenLifetime::unknown(at(1_000)), 300, 1_000, known(300, i64::from(LONGEST_TOKEN_SECONDS), 87_400)),
    ] {
        assert_eq!(before.changed_to(to, at(now)), after, "{before:?} to {to}");
    }
    assert_eq!([4_599, 4_600].map(|now| known(300, 3_600, 4_600).longest(at(now))), [3_600, 300]);
}

fn revocation(session: &str) -> Revocation {
    Revocation { kind: Kind::Session, id: session.to_owned(), user_id: None, organization_id: None, reason: "revoked" }
}

async fn revoke(app: &TestApp, session: &str) {
    let (environment, scribe, what) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System), revocation(session));
    app.cx().db().write(move |tx| insert(tx, &environment, &what, &scribe)).await.expect("written");
}

async fn after(app: &TestApp, seq: i64) -> Vec<RevocationRow> {
    let (environment, now) = (app.tenant.environment.clone(), app.now());
    app.cx().db().read(move |tx| list_after(tx, &environment, seq, now, 100)).await.expect("readable")
}

fn subjects(rows: &[RevocationRow]) -> Vec<&str> {
    rows.iter().map(|row| row.subject.as_str()).collect()
}

both_engines!(a_revocation_is_kept_as_long_as_a_token_of_before_can_live, |app| async move {
    revoke(&app, "session_300").await;
    app.settings(|settings| settings.access_token_seconds = 3_600).await;
    revoke(&app, "session_3600").await;
    app.settings(|settings| settings.access_token_seconds = 60).await;
    revoke(&app, "session_lowered").await;
    app.clock.advance(Duration::from_secs(3_600));
    revoke(&app, "session_60").await;
    bring_up(app.cx()).await.unwrap();
    let kept: Vec<_> = app.cx().db().read(|tx| store::list_all(tx, 0, 100)).await.unwrap();
    let seconds = |row: &RevocationRow| row.expires_at.since(row.revoked_at).as_secs();
    assert_eq!(kept.iter().map(seconds).collect::<Vec<_>>(), [420, 3_720, 3_720, 180], "the lifetime and two minutes for clocks");
    app.clock.advance(Duration::from_secs(180));
    crate::run_jobs(app.cx()).await;
    assert!(app.cx().db().read(|tx| store::list_all(tx, 0, 100)).await.unwrap().is_empty());
});

both_engines!(the_revocation_of_a_signing_key_outlives_what_others_may_have_made_with_it, |app| async move {
    let what = Revocation { kind: Kind::SigningKey, ..revocation("key_1") };
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    app.cx().db().write(move |tx| insert(tx, &environment, &what, &scribe)).await.unwrap();
    bring_up(app.cx()).await.unwrap();
    let rows = after(&app, 0).await;
    let [row] = rows.as_slice() else { panic!("not one: {rows:?}") };
    assert_eq!(row.expires_at.since(row.revoked_at).as_secs(), 86_400 + 420);
});

both_engines!(an_environment_older_than_the_table_keeps_for_a_day_until_the_job_has_noted_its_lifetime, |app| async move {
    app.cx().db().write(|tx| tx.execute("DELETE FROM token_lifetimes", params![])).await.unwrap();
    revoke(&app, "session_1").await;
    crate::run_jobs(app.cx()).await;
    revoke(&app, "session_2").await;
    app.clock.advance(Duration::from_secs(86_400));
    revoke(&app, "session_3").await;
    let lifetimes = "SELECT expires_at - revoked_at FROM revocations ORDER BY id";
    let rows = app.cx().db().read(move |tx| tx.list(lifetimes, params![])).await.unwrap();
    let millis: Vec<i64> = rows.into_iter().map(|mut row| row.int().unwrap()).collect();
    assert_eq!(millis, [86_520_000, 86_520_000, 420_000], "tokens of before the note may have lived a day");
});

both_engines!(a_row_that_commits_late_comes_after_those_that_were_read, |app| async move {
    // Begun first and committed last, as on another node: its id and its time are the oldest.
    let late = app.cx().scribe(Actor::System);
    app.clock.advance(Duration::from_secs(40));
    revoke(&app, "session_early").await;
    let seen = bring_up(app.cx()).await.unwrap();
    assert_eq!(subjects(&after(&app, 0).await), ["session_early"]);
    let environment = app.tenant.environment.clone();
    app.cx().db().write(move |tx| insert(tx, &environment, &revocation("session_late"), &late)).await.unwrap();
    bring_up(app.cx()).await.unwrap();
    assert_eq!(subjects(&after(&app, seen).await), ["session_late"]);
});

both_engines!(nodes_that_give_places_at_once_give_each_once_and_without_gaps, |app| async move {
    let app = Arc::new(app);
    let mut work = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let app = app.clone();
        work.spawn(async move {
            for number in 0..16 {
                revoke(&app, &format!("session_{writer}_{number}")).await;
                bring_up(app.cx()).await.unwrap();
            }
        });
    }
    work.join_all().await;
    assert_eq!(bring_up(app.cx()).await.unwrap(), 128);
    let rows = app.cx().db().read(|tx| store::list_all(tx, 0, 1_000)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=128).collect::<Vec<_>>());
});

both_engines!(what_is_not_yet_told_to_streams_is_not_swept, |app| async move {
    revoke(&app, "session_1").await;
    bring_up(app.cx()).await.unwrap();
    app.clock.advance(Duration::from_secs(1_000));
    let now = app.now();
    assert_eq!(app.cx().db().write(move |tx| store::sweep(tx, now)).await.unwrap(), 0);
    assert!(after(&app, 0).await.is_empty(), "though no guard needs it any more");
    assert_eq!(app.cx().db().write(|tx| list_told_after(tx, 10)).await.unwrap().len(), 1);
    assert_eq!(app.cx().db().write(move |tx| store::sweep(tx, now)).await.unwrap(), 1);
});

both_engines!(listeners_have_a_bound_and_one_environment_takes_no_place_from_another, |app| async move {
    let (ours, theirs) = (app.tenant.environment.clone(), app.other.environment.clone());
    let mut places = Vec::new();
    while let Some(place) = News::subscribe(app.cx(), &ours).await.unwrap() {
        places.push(place);
        assert!(places.len() <= 1_000, "no bound");
    }
    assert_eq!(places.len(), 1_000);
    assert!(News::subscribe(app.cx(), &theirs).await.unwrap().is_some());
    places.pop();
    assert!(News::subscribe(app.cx(), &ours).await.unwrap().is_some(), "who goes makes room");
});

both_engines!(listeners_are_sent_away_when_an_older_database_is_put_back, |app| async move {
    revoke(&app, "session_1").await;
    bring_up(app.cx()).await.unwrap();
    let mut listener = News::subscribe(app.cx(), &app.tenant.environment).await.unwrap().expect("a place");
    let put_back = app.cx().db().write(|tx| {
        tx.execute("DELETE FROM revocations", params![])?;
        tx.execute("UPDATE revocation_heads SET seq = 0", params![])
    });
    put_back.await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.receiver.recv()).await.expect("soon");
    assert_eq!(heard.unwrap_err(), RecvError::Closed, "its place counts for nothing any more");
    drop(listener);
    let mut again = News::subscribe(app.cx(), &app.tenant.environment).await.unwrap().expect("a place");
    revoke(&app, "session_2").await;
    let heard = tokio::time::timeout(Duration::from_secs(10), again.receiver.recv()).await.expect("soon");
    assert_eq!(heard.unwrap().subject, "session_2");
});

both_engines!(a_change_that_is_rolled_back_leaves_no_revocation, |app| async move {
    let (environment, scribe) = (app.tenant.environment.clone(), app.cx().scribe(Actor::System));
    let outcome = app.cx().db().write(move |tx| {
        insert(tx, &environment, &revocation("session_1"), &scribe)?;
        Err::<(), _>(DbError::NoRow)
    });
    assert!(outcome.await.is_err());
    assert_eq!(bring_up(app.cx()).await.unwrap(), 0);
});
