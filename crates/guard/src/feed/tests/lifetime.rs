use super::*;

/// Requests that wait for a server that hangs.
fn wait_in_vain(world: &World, count: usize) -> mpsc::Receiver<Resolved> {
    world.server.on_path(AUTHENTICATE, |_| Does::Hang);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    let (tell, told) = mpsc::channel();
    for n in 0..count {
        // Two of each session: some wait for a thread, some for another's call.
        let cookie = world.cookie(world.token(&world.key, -60), &format!("refresh_{}", n / 2));
        let Check::Needs(need) = world.check(("cookie", &cookie)) else { panic!("not expired") };
        let tell = tell.clone();
        world.guard.resolve(need, move |resolved| tell.send(resolved).unwrap());
    }
    while world.server.calls(AUTHENTICATE) < 4 {
        std::thread::yield_now();
    }
    told
}

#[test]
fn closing_answers_all_who_wait_exactly_once() {
    let world = World::new();
    let told = wait_in_vain(&world, 40);
    let began = Instant::now();
    world.guard.close();
    let answers: Vec<_> = told.iter().collect();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((answers.len(), answers.iter().filter(|answer| is_unavailable(answer)).count()), (40, 40));

    let valid = world.cookie(world.token(&world.key, 60), "refresh_0");
    assert!(matches!(world.check(("cookie", &valid)), Check::Allowed(_)));
    assert!(is_unavailable(&world.ask_with_cookie(&world.expired_cookie())));
    world.guard.close();
}

#[test]
fn the_last_guard_dropped_answers_all_who_wait() {
    let world = World::new();
    let told = wait_in_vain(&world, 10);
    let World { guard, server, .. } = world;
    let clone = guard.clone();
    drop(guard);
    assert!(told.try_recv().is_err(), "a clone still lives");
    drop(clone);
    assert_eq!(told.iter().count(), 10);
    drop(server);
}

#[test]
fn a_callback_that_panics_takes_nobody_with_it() {
    let world = World::new();
    world.renew_for(300);
    let cookie = world.expired_cookie();
    let (tell, told) = mpsc::channel();
    // All of them before the first is resolved: from then on the renewed session is known.
    let checks: Vec<Check> = (0..10).map(|_| world.check(("cookie", &cookie))).collect();
    for (n, check) in checks.into_iter().enumerate() {
        let Check::Needs(need) = check else { panic!("not expired") };
        let tell = tell.clone();
        world.guard.resolve(need, move |resolved| {
            tell.send(resolved.outcome.is_ok()).unwrap();
            assert!(n % 2 == 0, "planted");
        });
    }
    drop(tell);
    assert_eq!(told.iter().filter(|is_ok| *is_ok).count(), 10);
    assert!(world.ask(("cookie", &cookie)).outcome.is_ok());
}

#[test]
fn a_forked_child_goes_on_with_the_keys_of_its_parent_and_threads_of_its_own() {
    let world = World::new();
    world.renew_for(300);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    let parent = Arc::clone(world.guard.engine());
    world.guard.after_fork();
    assert!(!Arc::ptr_eq(&parent, world.guard.engine()));
    assert!(world.is_let_in());
    assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
    assert_eq!((world.server.calls(JWKS), world.guard.stats().refreshes), (1, 1));
    // Keys that came along are fetched again when it is time, on a thread that the child starts.
    world.seconds_pass(300);
    assert!(world.is_let_in());
    world.wait_for("a fetch", |stats| stats.key_fetches == 1);
}

#[test]
fn a_forked_child_starts_afresh_whatever_locks_the_parent_held() {
    let world = World::new();
    world.renew_for(300);
    assert!(world.ask(("authorization", &format!("Bearer {}", world.token(&world.key, 60)))).outcome.is_ok());
    world.guard.engine().seize_locks();
    world.guard.after_fork();
    assert!(world.ask_with_cookie(&world.expired_cookie()).outcome.is_ok());
    assert_eq!((world.server.calls(JWKS), world.guard.stats().refreshes), (2, 1));
}

#[test]
fn a_forked_child_has_the_revocations_of_its_parent() {
    let world = World::new();
    let now = world.guard.clock().now();
    world.guard.revocations().revoke(Revoked::Session("session_1"), now, now.plus(Duration::from_secs(60)));
    world.guard.after_fork();
    let cookie = world.cookie(world.token(&world.key, 60), "refresh_0");
    assert_eq!(world.ask_with_cookie(&cookie).outcome, Err(Refusal::Revoked));
}

#[test]
fn a_seen_credential_costs_a_look_in_the_cache() {
    let world = World::new();
    let cookie = world.cookie(world.token(&world.key, 300), "refresh_0");
    assert!(world.ask_with_cookie(&cookie).outcome.is_ok());
    let before = world.guard.stats();
    for _ in 0..5 {
        assert!(matches!(world.check(("cookie", &cookie)), Check::Allowed(_)));
    }
    let after = world.guard.stats();
    assert_eq!((after.cache_hits - before.cache_hits, after.cache_misses), (5, before.cache_misses));
    // The same octets as a bearer token are another credential.
    let value = cookie.split_once('=').unwrap().1;
    let seen = &world.guard.engine().seen;
    assert!(seen.digest(Via::Bearer, value) != seen.digest(Via::Session, value));
    assert!(world.ask(("authorization", &format!("Bearer {value}"))).outcome.is_err());
}
