use std::time::Duration;

use super::{Given, LIFETIME, Purpose, TRIES, Visitor, begin, has_try, model, pass, take_try};
use crate::both_engines;
use crate::testkit::TestApp;

fn visitor(app: &TestApp) -> Visitor {
    Visitor { environment: app.tenant.environment.clone(), browser_hash: "browser".to_owned(), purpose: Purpose::SignIn }
}

fn solved(app: &TestApp, visitor: &Visitor) -> Given {
    let challenge = begin(app.cx(), visitor, 8);
    let found = (0_u32..).map(|number| number.to_string()).find(|number| model::is_solved(&challenge.text, number, 8));
    Given { challenge: challenge.text, solution: found.unwrap(), ..Given::default() }
}

both_engines!(an_answered_check_is_good_for_five_tries_of_its_browser_and_purpose, |app| async {
    let visitor = visitor(&app);
    assert!(!take_try(app.cx(), &visitor).await.unwrap());
    let given = solved(&app, &visitor);
    assert!(pass(app.cx(), &visitor, &given).await.unwrap());
    assert!(!pass(app.cx(), &visitor, &given).await.unwrap(), "once");
    for other in [
        Visitor { purpose: Purpose::SignUp, ..visitor.clone() },
        Visitor { browser_hash: "another".to_owned(), ..visitor.clone() },
        Visitor { environment: app.other.environment.clone(), ..visitor.clone() },
    ] {
        assert!(!pass(app.cx(), &other, &solved(&app, &visitor)).await.unwrap(), "{other:?}");
        assert!(!has_try(app.cx(), &other).await.unwrap() && !take_try(app.cx(), &other).await.unwrap(), "{other:?}");
    }
    for _ in 0..TRIES {
        assert!(has_try(app.cx(), &visitor).await.unwrap());
        assert!(take_try(app.cx(), &visitor).await.unwrap());
    }
    assert!(!take_try(app.cx(), &visitor).await.unwrap());
    assert!(!pass(app.cx(), &visitor, &given).await.unwrap(), "not when its tries are used either");
});

both_engines!(a_check_that_waits_too_long_is_none, |app| async {
    let visitor = visitor(&app);
    let late = solved(&app, &visitor);
    assert!(pass(app.cx(), &visitor, &solved(&app, &visitor)).await.unwrap());
    app.clock.advance(LIFETIME);
    assert!(!pass(app.cx(), &visitor, &late).await.unwrap());
    assert!(!take_try(app.cx(), &visitor).await.unwrap());
    app.clock.advance(Duration::from_secs(1));
    crate::run_jobs(app.cx()).await;
    assert!(!has_try(app.cx(), &visitor).await.unwrap());
});

both_engines!(one_solution_sent_at_once_by_many_counts_once_and_one_try_is_taken_once, |app| async {
    let visitor = visitor(&app);
    let given = solved(&app, &visitor);
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (cx, visitor, given) = (app.cx().clone(), visitor.clone(), given.clone());
        racing.spawn(async move { pass(&cx, &visitor, &given).await.unwrap() });
    }
    assert_eq!(racing.join_all().await.into_iter().filter(|passed| *passed).count(), 1);
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (cx, visitor) = (app.cx().clone(), visitor.clone());
        racing.spawn(async move { take_try(&cx, &visitor).await.unwrap() });
    }
    assert_eq!(racing.join_all().await.into_iter().filter(|taken| *taken).count(), TRIES as usize);
});
