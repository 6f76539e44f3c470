use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;

use gatewright_base::{Id, Kind, Timestamp};
use tokio::runtime::Runtime;

use crate::job::Mode;
use crate::migrate::{self, MIGRATIONS, Migration};
use crate::{Ask, Db, DbConfig, DbError, Engine, Tx, params};

const INSERT: &str = "INSERT INTO codes (id, used_at) VALUES ($1, NULL)";
const TAKE: &str = "UPDATE codes SET used_at = $2 WHERE id = $1 AND used_at IS NULL RETURNING id";
const COUNT: &str = "SELECT COUNT(*) FROM codes";
const LIST: &str = "SELECT id FROM codes ORDER BY id";

macro_rules! on {
    ($engine:ident: $($name:ident)*) => {
        mod $engine { $(#[test] fn $name() { super::$name(super::Fixture::$engine()); })* }
    };
}

macro_rules! on_both_engines {
    ($($name:ident)*) => { on!(sqlite: $($name)*); on!(postgresql: $($name)*); };
}

on_both_engines! {
    of_64_threads_one_takes_a_code_in_each_of_20_rounds
    an_error_rolls_back_its_own_work_while_its_group_commits
    a_panic_costs_only_its_own_transaction
    a_panic_in_a_read_or_scan_is_an_error_and_the_connection_lives_on
    an_answered_write_is_seen_at_once_from_every_thread
    the_statements_of_one_read_see_one_snapshot
    what_is_asked_ahead_is_answered_as_if_it_were_not
    a_write_asks_nothing_ahead
    an_error_ahead_is_the_answer_of_its_read_alone
    a_read_cannot_write
    a_look_up_gives_the_one_row_and_leaves_nothing_behind
    a_look_up_cannot_write
    migrations_apply_once_however_often_they_are_asked_for
    nodes_that_start_together_apply_each_migration_once
    a_migration_edited_after_it_was_applied_is_refused
    a_database_made_by_a_newer_version_is_refused
    a_migration_that_fails_leaves_nothing_behind
    a_statement_is_prepared_once_for_a_connection
    every_type_and_the_null_of_each_comes_back_as_it_went
    columns_are_taken_in_order_and_a_wrong_type_names_its_column
    a_broken_unique_key_is_named_alike
    a_closure_that_swallows_a_failed_statement_is_answered_with_it
    a_row_that_should_be_alone_and_is_not_is_an_error
    foreign_keys_hold
    a_commit_that_fails_is_ok_for_nobody
    errors_repeat_no_value
    a_statement_can_be_checked_without_running_it
    close_finishes_what_was_queued_and_refuses_the_rest
    a_sound_database_answers_ping_and_integrity
}

mod sqlite_only {
    use super::*;

    #[test]
    fn writes_that_wait_together_commit_together() {
        let on = Fixture::sqlite();
        let before = on.db.stats();
        let hold = Hold::the_writer(&on);
        let waiting: Vec<_> = (0..200).map(|n| queued(insert(&on.db, format!("c{n}")))).collect();
        hold.release();
        on.wait(async {
            for write in waiting {
                write.await.unwrap();
            }
        });
        let after = on.db.stats();
        assert_eq!(after.writes - before.writes, 201);
        assert_eq!(after.commits - before.commits, 2, "the one that held the writer, then all 200");
    }

    #[test]
    fn a_full_queue_is_refused_and_recovers() {
        let on = Fixture::sqlite();
        let hold = Hold::the_writer(&on);
        let waiting: Vec<_> = (0..4096).map(|n| queued(insert(&on.db, format!("c{n}")))).collect();
        let refused = on.wait(insert(&on.db, "one too many".into()));
        assert!(matches!(refused, Err(DbError::Unavailable(_))), "{refused:?}");
        hold.release();
        on.wait(async {
            for write in waiting {
                write.await.unwrap();
            }
        });
        assert_eq!(on.count(), 4096);
    }

    #[test]
    fn a_full_disk_costs_only_the_transaction_that_met_it() {
        let on = Fixture::sqlite();
        on.batch("PRAGMA max_page_count = 60");
        let hold = Hold::the_writer(&on);
        let first = queued(insert(&on.db, "first".into()));
        let big = queued(on.db.write(|tx| tx.execute("INSERT INTO codes (id) VALUES (CAST(zeroblob(1000000) AS TEXT))", &[]).map(drop)));
        let last = queued(insert(&on.db, "last".into()));
        hold.release();
        on.wait(async {
            first.await.unwrap();
            assert!(matches!(big.await, Err(DbError::Unavailable(_))));
            last.await.unwrap();
        });
        assert_eq!(on.list(), ["first", "last"]);
        assert!(on.db.stats().retries > 0, "the disk filled without costing the group its transaction: this test shows nothing");
    }

    #[test]
    fn the_file_and_its_wal_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let on = Fixture::sqlite();
        for name in ["db", "db-wal", "db-shm"] {
            let mode = std::fs::metadata(on.path(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn close_leaves_one_file() {
        let on = Fixture::sqlite();
        on.wait(insert(&on.db, "a".into())).unwrap();
        on.db.close();
        let files: Vec<_> = std::fs::read_dir(on.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["db"]);
    }

    #[test]
    fn dropping_the_last_clone_inside_a_closure_ends_the_writer() {
        let on = Fixture::sqlite();
        let (done, ended) = mpsc::channel();
        let (dropped, is_last) = mpsc::channel();
        let is_last = Mutex::new(is_last);
        let other = Db::open(&on.config).unwrap();
        let mut inner = Some(other.clone());
        let write = queued(other.write(move |_| {
            is_last.lock().unwrap().recv().map_err(|_| DbError::NoRow)?;
            drop(inner.take());
            done.send(()).map_err(|_| DbError::NoRow)
        }));
        drop(write);
        drop(other);
        dropped.send(()).unwrap();
        ended.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_damaged_file_fails_the_integrity_check() {
        let on = Fixture::sqlite();
        for n in 0..2000 {
            on.wait(insert(&on.db, format!("a code long enough to fill some pages {n:04}"))).unwrap();
        }
        on.db.close();
        let mut bytes = std::fs::read(on.path("db")).unwrap();
        let half = bytes.len() / 2 / 4096 * 4096;
        bytes[half..half + 4096].fill(0x5a);
        std::fs::write(on.path("db"), bytes).unwrap();
        let db = Db::open(&on.config).unwrap();
        assert!(matches!(db.integrity(), Err(DbError::Other(_))));
    }

    #[test]
    fn a_path_that_cannot_be_opened_says_so_in_one_line() {
        let error = Db::open(&DbConfig::new("sqlite:/nowhere/at/all/db")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all/db") && !error.contains('\n'), "{error}");
        for url in ["sqlite:", "sqlite::memory:", "mysql://x", "db"] {
            assert!(Db::open(&DbConfig::new(url)).is_err(), "{url}");
        }
    }
}

mod postgresql_only {
    use super::*;

    #[test]
    fn migrations_keep_to_the_three_column_types() {
        let on = Fixture::postgresql();
        on.db.migrate().unwrap();
        let others = "SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
                      WHERE table_schema = current_schema() AND data_type NOT IN ('text', 'bigint', 'bytea')";
        let others =
            on.wait(on.db.scan(move |tx| tx.list(others, &[])?.iter_mut().map(|row| row.text()).collect::<Result<Vec<_>, DbError>>()));
        assert_eq!(others.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_killed_idle_connection_is_replaced_unnoticed() {
        let on = Fixture::postgresql_with(1);
        for round in 0..3 {
            on.kill(on.backend());
            on.wait(insert(&on.db, format!("{round}"))).unwrap();
            on.kill(on.backend());
            assert_eq!(on.count(), round + 1);
        }
        assert!(on.db.stats().connects >= 7);
    }

    #[test]
    fn a_connection_killed_inside_a_closure_runs_it_again_once() {
        for kills in [1, 2] {
            let on = Fixture::postgresql_with(1);
            let killer = Db::open(&on.config).unwrap();
            let mut runs = 0;
            let outcome = on.wait(on.db.write(move |tx| {
                runs += 1;
                tx.execute(INSERT, params!["a"])?;
                if runs <= kills {
                    terminate(&killer, backend_of(tx)?);
                }
                tx.execute(INSERT, params!["b"])?;
                Ok::<_, DbError>(runs)
            }));
            match kills {
                1 => assert_eq!((outcome, on.list()), (Ok(2), vec!["a".to_owned(), "b".to_owned()])),
                _ => assert!(matches!(outcome, Err(DbError::Unavailable(_))), "{outcome:?}"),
            }
            assert_eq!(on.count(), 2 * i64::from(kills == 1));
        }
    }

    #[test]
    fn a_connection_lost_before_its_commit_is_not_answered_ok() {
        let on = Fixture::postgresql_with(1);
        let killer = Db::open(&on.config).unwrap();
        let outcome = on.wait(on.db.write(move |tx| {
            tx.execute(INSERT, params!["a"])?;
            terminate(&killer, backend_of(tx)?);
            Ok::<_, DbError>(())
        }));
        assert!(matches!(outcome, Err(DbError::Unavailable(_))), "{outcome:?}");
        assert_eq!(on.count(), 0);
    }

    #[test]
    fn two_that_deadlock_both_succeed() {
        let on = Fixture::postgresql();
        on.wait(insert(&on.db, "a".into())).unwrap();
        on.wait(insert(&on.db, "b".into())).unwrap();
        let both_hold_one = Arc::new(Barrier::new(2));
        let cross = |mine: &'static str, other: &'static str| {
            let (barrier, mut first_run) = (Arc::clone(&both_hold_one), true);
            on.db.write(move |tx| {
                tx.execute("UPDATE codes SET used_at = 1 WHERE id = $1", params![mine])?;
                if std::mem::take(&mut first_run) {
                    barrier.wait();
                }
                tx.execute("UPDATE codes SET used_at = 2 WHERE id = $1", params![other])
            })
        };
        let (one, two) = (queued(cross("a", "b")), queued(cross("b", "a")));
        assert_eq!(on.wait(async { (one.await, two.await) }), (Ok(1), Ok(1)));
        assert_eq!(on.db.stats().retries, 1);
    }

    #[test]
    fn a_server_that_is_not_there_is_named_in_one_line_without_the_password() {
        let error = Db::open(&DbConfig::new("postgres://u:hunter2@127.0.0.1:1/x")).unwrap_err();
        assert!(matches!(error, DbError::Unavailable(_)));
        assert!(!error.to_string().contains("hunter2") && !error.to_string().contains('\n'), "{error}");
        for url in ["postgres://u:hunter2@h/x?sslmode=maybe", "postgres://u:hunter2@h:port/x", "postgres://u:hunter2@h/x?ssl=1"] {
            let error = Db::open(&DbConfig::new(url)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_server_without_tls_is_refused_when_the_url_asks_for_it() {
        let separator = if postgresql_url().contains('?') { '&' } else { '?' };
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("{}{separator}sslmode={mode}", postgresql_url());
            let error = Db::open(&DbConfig::new(url)).unwrap_err();
            assert!(matches!(&error, DbError::Unavailable(reason) if reason.contains("TLS")), "{error}");
        }
    }
}

const FIND: &str = "SELECT id FROM codes WHERE id = $1";

fn what_is_asked_ahead_is_answered_as_if_it_were_not(on: Fixture) {
    for id in ["a", "b"] {
        on.wait(insert(&on.db, id.into())).unwrap();
    }
    let other = on.db.clone();
    let found = on.wait(on.db.scan(move |tx| {
        let find = |tx: &mut Tx<'_>, id: &str| tx.optional(FIND, params![id])?.map(|mut row| row.text()).transpose();
        // One is never asked for, one is not there, and the same is asked twice.
        tx.ahead([Ask::new(FIND, params!["a"]), Ask::new(FIND, params!["c"]), Ask::new(COUNT, &[]), Ask::new(FIND, params!["b"])])?;
        let first = find(tx, "b")?;
        let (db, written) = (other.clone(), mpsc::sync_channel(1));
        thread::spawn(move || written.0.send(db.run(Mode::Write, |tx| tx.execute(INSERT, params!["c"]))));
        written.1.recv().unwrap().unwrap();
        let found = [first, find(tx, "c")?, find(tx, "a")?, find(tx, "a")?, find(tx, "c")?];
        Ok::<_, DbError>((found.map(|id| id.unwrap_or_default()), tx.one(COUNT, &[])?.int()?))
    }));
    assert_eq!(found.unwrap(), (["b", "", "a", "a", ""].map(str::to_owned), 2));
    assert_eq!(on.count(), 3);
}

fn a_write_asks_nothing_ahead(on: Fixture) {
    let counted = on.wait(on.db.write(|tx| {
        tx.ahead([Ask::new(COUNT, &[])])?;
        tx.execute(INSERT, params!["a"])?;
        tx.one(COUNT, &[])?.int()
    }));
    assert_eq!(counted.unwrap(), 1);
}

fn an_error_ahead_is_the_answer_of_its_read_alone(on: Fixture) {
    on.wait(insert(&on.db, "a".into())).unwrap();
    for _ in 0..3 {
        let refused = on.wait(on.db.read(|tx| {
            tx.ahead([Ask::new(COUNT, &[]), Ask::new("SELECT 1 / (COUNT(*) - 1) FROM codes", &[]), Ask::new(LIST, &[])])?;
            tx.one("SELECT 1 / (COUNT(*) - 1) FROM codes", &[])?.opt_int()
        }));
        // SQLite makes NULL of a division by zero.
        assert!(matches!(refused, Err(DbError::Other(_)) | Ok(None)), "{refused:?}");
        assert_eq!(on.count(), 1);
    }
}

fn of_64_threads_one_takes_a_code_in_each_of_20_rounds(on: Fixture) {
    let (threads, rounds) = (64, 20);
    for round in 0..rounds {
        on.wait(insert(&on.db, format!("code{round}"))).unwrap();
    }
    let wins: Vec<AtomicU32> = (0..rounds).map(|_| AtomicU32::new(0)).collect();
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for number in 0..threads {
            let (on, wins, start) = (&on, &wins, &start);
            scope.spawn(move || {
                for (round, won) in wins.iter().enumerate() {
                    start.wait();
                    let now = Timestamp::from_millis(number as i64);
                    let taken = on.wait(on.db.write(move |tx| tx.take_once(TAKE, params![format!("code{round}"), now]))).unwrap();
                    won.fetch_add(u32::from(taken.is_some()), Ordering::Relaxed);
                }
            });
        }
    });
    let wins: Vec<u32> = wins.into_iter().map(AtomicU32::into_inner).collect();
    assert_eq!(wins, [1; 20]);
}

fn an_error_rolls_back_its_own_work_while_its_group_commits(on: Fixture) {
    let hold = Hold::the_writer(&on);
    let waiting: Vec<_> = (0..10)
        .map(|n| {
            queued(on.db.write(move |tx| {
                tx.execute(INSERT, params![format!("c{n}")])?;
                if n % 2 == 1 { Err(Refused::Odd(n)) } else { Ok(n) }
            }))
        })
        .collect();
    hold.release();
    for (n, write) in waiting.into_iter().enumerate() {
        let n = n as i64;
        assert_eq!(on.wait(write), if n % 2 == 1 { Err(Refused::Odd(n)) } else { Ok(n) });
    }
    assert_eq!(on.list(), ["c0", "c2", "c4", "c6", "c8"]);
}

fn a_panic_costs_only_its_own_transaction(on: Fixture) {
    let hold = Hold::the_writer(&on);
    let before = queued(insert(&on.db, "before".into()));
    let panicking = queued(on.db.write(|tx| {
        tx.execute(INSERT, params!["panicked"])?;
        if tx.failure().is_none() {
            panic!("on purpose, with hunter2");
        }
        Ok::<_, DbError>(())
    }));
    let after = queued(insert(&on.db, "later".into()));
    hold.release();
    on.wait(before).unwrap();
    let error = on.wait(panicking).unwrap_err();
    assert!(matches!(&error, DbError::Other(reason) if !reason.contains("hunter2")), "{error}");
    on.wait(after).unwrap();
    on.wait(insert(&on.db, "much later".into())).unwrap();
    assert_eq!(on.list(), ["before", "later", "much later"]);
}

fn a_panic_in_a_read_or_scan_is_an_error_and_the_connection_lives_on(on: Fixture) {
    fn panicking(tx: &mut Tx<'_>) -> Result<i64, DbError> {
        let count = tx.one(COUNT, &[])?.int()?;
        assert!(count < 0, "on purpose");
        Ok(count)
    }
    for _ in 0..20 {
        assert!(matches!(on.wait(on.db.read(panicking)), Err(DbError::Other(_))));
        assert!(matches!(on.wait(on.db.scan(panicking)), Err(DbError::Other(_))));
    }
    assert_eq!(on.count(), 0);
}

fn an_answered_write_is_seen_at_once_from_every_thread(on: Fixture) {
    on.wait(insert(&on.db, "counter".into())).unwrap();
    on.wait(async {
        for n in 1..=200_i64 {
            on.db.write(move |tx| tx.execute("UPDATE codes SET used_at = $1 WHERE id = 'counter'", params![n])).await.unwrap();
            let seen = |db: Db, scan: bool| async move {
                let look = |tx: &mut Tx<'_>| tx.one("SELECT used_at FROM codes WHERE id = 'counter'", &[])?.int();
                if scan { db.scan(look).await } else { db.read(look).await }
            };
            let elsewhere = [false, false, true].map(|scan| tokio::spawn(seen(on.db.clone(), scan)));
            assert_eq!(seen(on.db.clone(), false).await, Ok(n));
            for task in elsewhere {
                assert_eq!(task.await.unwrap(), Ok(n));
            }
        }
    });
}

fn the_statements_of_one_read_see_one_snapshot(on: Fixture) {
    let (db, handle) = (on.db.clone(), on.runtime.handle().clone());
    let counts = on.wait(on.db.read(move |tx| {
        let before = tx.one(COUNT, &[])?.int()?;
        thread::scope(|scope| scope.spawn(|| handle.block_on(insert(&db, "meanwhile".into()))).join().unwrap())?;
        Ok::<_, DbError>((before, tx.one(COUNT, &[])?.int()?))
    }));
    assert_eq!(counts, Ok((0, 0)));
    assert_eq!(on.count(), 1);
}

fn a_read_cannot_write(on: Fixture) {
    let refused = on.wait(on.db.read(|tx| tx.execute(INSERT, params!["a"])));
    assert!(matches!(refused, Err(DbError::Other(_))), "{refused:?}");
    assert_eq!(on.count(), 0);
}

fn a_look_up_gives_the_one_row_and_leaves_nothing_behind(on: Fixture) {
    let find = |id: &str| on.wait(on.db.look_up(Ask::new("SELECT id FROM codes WHERE id = $1", params![id])));
    assert!(find("a").unwrap().is_none());
    on.wait(insert(&on.db, "a".into())).unwrap();
    assert_eq!(find("a").unwrap().unwrap().text().unwrap(), "a");
    let broken = on.wait(on.db.look_up(Ask::new("SELECT id FROM codes WHERE nothing = $1", params!["a"])));
    assert!(matches!(broken, Err(DbError::Other(_))), "{:?}", broken.err());
    on.wait(insert(&on.db, "b".into())).unwrap();
    let two = on.wait(on.db.look_up(Ask::new("SELECT id FROM codes", &[])));
    assert!(matches!(two, Err(DbError::Other(_))), "{:?}", two.err());
    assert_eq!(find("b").unwrap().unwrap().text().unwrap(), "b");
    assert_eq!(on.count(), 2);
}

fn a_look_up_cannot_write(on: Fixture) {
    on.wait(insert(&on.db, "a".into())).unwrap();
    let refused = on.wait(on.db.look_up(Ask::new("UPDATE codes SET used_at = 1 RETURNING id", &[])));
    assert!(matches!(refused, Err(DbError::Other(_))), "{:?}", refused.err());
    let used = on.wait(on.db.read(|tx| tx.one("SELECT used_at FROM codes WHERE id = 'a'", &[])?.opt_int()));
    assert_eq!(used, Ok(None));
}

fn migrations_apply_once_however_often_they_are_asked_for(on: Fixture) {
    let names: Vec<_> = MIGRATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(on.db.pending().unwrap(), names);
    assert_eq!(on.db.migrate().unwrap(), names);
    assert_eq!(on.db.migrate().unwrap(), Vec::<String>::new());
    assert_eq!(on.db.pending().unwrap(), Vec::<String>::new());
    on.db.check_sql("SELECT id, email_key FROM users WHERE environment_id = $1").unwrap();
}

fn nodes_that_start_together_apply_each_migration_once(on: Fixture) {
    let nodes = 8;
    let start = Barrier::new(nodes);
    let applied: Mutex<Vec<String>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..nodes {
            scope.spawn(|| {
                start.wait();
                let node = Db::open(&on.config).unwrap();
                applied.lock().unwrap().extend(migrate::apply(&node, THREE).unwrap());
            });
        }
    });
    let mut applied = applied.into_inner().unwrap();
    applied.sort();
    assert_eq!(applied, ["0001_one", "0002_two", "0003_three"]);
}

fn a_migration_edited_after_it_was_applied_is_refused(on: Fixture) {
    const EDITED: &[Migration] = &[THREE[0], ("0002_two", "CREATE TABLE two (a BIGINT)"), THREE[2]];
    const OTHER_LINE_ENDS: &[Migration] = &[("0001_one", "CREATE TABLE one (\r\n  a TEXT)"), THREE[1]];
    migrate::apply(&on.db, &THREE[..2]).unwrap();
    for refusal in [migrate::apply(&on.db, EDITED), migrate::list_pending(&on.db, EDITED)] {
        assert!(matches!(&refusal, Err(DbError::Schema(reason)) if reason.contains("0002_two was edited")), "{refusal:?}");
    }
    on.db.check_sql("SELECT a FROM three").unwrap_err();
    assert_eq!(migrate::list_pending(&on.db, OTHER_LINE_ENDS), Ok(vec![]));
}

fn a_database_made_by_a_newer_version_is_refused(on: Fixture) {
    const RENAMED: &[Migration] = &[THREE[0], ("0002_deux", THREE[1].1)];
    migrate::apply(&on.db, THREE).unwrap();
    for refusal in [migrate::apply(&on.db, &THREE[..2]), migrate::list_pending(&on.db, &THREE[..2])] {
        assert!(matches!(&refusal, Err(DbError::Schema(reason)) if reason.contains("made by a newer version")), "{refusal:?}");
    }
    assert!(matches!(migrate::apply(&on.db, RENAMED), Err(DbError::Schema(reason)) if reason.contains("0002_two where")));
}

fn a_migration_that_fails_leaves_nothing_behind(on: Fixture) {
    const BAD: &[Migration] = &[THREE[0], ("0002_bad", "CREATE TABLE good (a TEXT); CREATE TABLE bad (a TEXT, a TEXT)"), THREE[2]];
    let refusal = migrate::apply(&on.db, BAD);
    assert!(matches!(&refusal, Err(DbError::Schema(reason)) if reason.contains("0002_bad")), "{refusal:?}");
    on.db.check_sql("SELECT a FROM one").unwrap();
    on.db.check_sql("SELECT a FROM good").unwrap_err();
    assert_eq!(migrate::list_pending(&on.db, BAD).unwrap(), ["0002_bad", "0003_three"]);
}

fn a_statement_is_prepared_once_for_a_connection(on: Fixture) {
    let db = Db::open(&DbConfig { connections: 1, ..on.config.clone() }).unwrap();
    let before = db.stats().prepared;
    for n in 0..50 {
        on.wait(insert(&db, format!("c{n}"))).unwrap();
        on.wait(db.write(|tx| tx.execute("UPDATE codes SET used_at = $1", params![1]))).unwrap();
    }
    assert_eq!(db.stats().prepared - before, 2);
}

fn every_type_and_the_null_of_each_comes_back_as_it_went(on: Fixture) {
    struct User;
    impl Kind for User {
        const PREFIX: &'static str = "user";
    }
    on.batch("CREATE TABLE kinds (n BIGINT NOT NULL, t TEXT, i BIGINT, b BYTEA)");
    const PUT: &str = "INSERT INTO kinds (n, t, i, b) VALUES ($1, $2, $3, $4)";
    const FIND: &str = "SELECT t, i, b FROM kinds WHERE n = $1";
    type Case = (Option<String>, Option<i64>, Option<Vec<u8>>);
    let cases: [Case; 4] = [
        (None, None, None),
        (Some(String::new()), Some(0), Some(vec![])),
        (Some("Zoë 'quoted' \u{1f511}\n$1".into()), Some(i64::MIN), Some((0..=255).collect())),
        (Some("x".repeat(100_000)), Some(i64::MAX), Some(vec![0; 100_000])),
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let put = case.clone();
        on.wait(on.db.write(move |tx| tx.execute(PUT, params![n as i64, &put.0, put.1, &put.2]))).unwrap();
        let back = on.wait(on.db.read(move |tx| {
            let mut row = tx.one(FIND, params![n as i64])?;
            Ok::<_, DbError>((row.opt_text()?, row.opt_int()?, row.opt_bytes()?))
        }));
        assert!(back.is_ok_and(|back| back == case), "case {n}");
    }

    let (id, now) = (Id::<User>::from_text("user_1"), Timestamp::from_millis(-5));
    let kept = id.clone();
    on.wait(on.db.write(move |tx| tx.execute(PUT, params![9, &kept, now, b"bytes"]))).unwrap();
    on.wait(on.db.write(move |tx| tx.execute(PUT, params![10, None::<Id<User>>, true, None::<&[u8]>]))).unwrap();
    on.wait(on.db.read(move |tx| {
        let mut row = tx.one(FIND, params![9])?;
        assert_eq!((row.id::<User>()?, row.time()?, row.bytes()?), (id.clone(), now, b"bytes".to_vec()));
        let mut row = tx.one(FIND, params![10])?;
        assert_eq!((row.opt_id::<User>()?, row.bool()?), (None, true));
        let mut row = tx.one("SELECT t, i, i FROM kinds WHERE n = 0 AND t IS NULL", &[])?;
        assert_eq!((row.opt_id::<User>()?, row.opt_time()?, row.opt_int()?), (None, None, None));
        let mut row = tx.one("SELECT 1, EXISTS (SELECT 1 FROM kinds WHERE n = 77), COUNT(*), COALESCE(MAX(i), 0) FROM kinds", &[])?;
        assert_eq!((row.int()?, row.bool()?, row.int()?, row.int()?), (1, false, 6, i64::MAX));
        Ok::<_, DbError>(())
    }))
    .unwrap();
}

fn columns_are_taken_in_order_and_a_wrong_type_names_its_column(on: Fixture) {
    on.wait(insert(&on.db, "a".into())).unwrap();
    on.wait(on.db.read(|tx| {
        let row = |tx: &mut Tx<'_>| tx.one("SELECT id, used_at, 7 FROM codes", &[]);
        let mut second_is_null = row(tx)?;
        second_is_null.text()?;
        assert_eq!(second_is_null.int(), Err(DbError::Decode { column: 2, expected: "an integer" }));
        assert_eq!(second_is_null.bool(), Err(DbError::Decode { column: 3, expected: "0 or 1" }));
        assert_eq!(second_is_null.text(), Err(DbError::Decode { column: 4, expected: "text" }));
        assert_eq!(row(tx)?.bytes(), Err(DbError::Decode { column: 1, expected: "bytes" }));
        assert_eq!(format!("{:?}", row(tx)?), "[Text(..), Null, Int(..)]");
        assert_eq!(tx.one("SELECT id FROM codes WHERE id = $1", params!["b"]).map(drop), Err(DbError::NoRow));
        row(tx).map(drop) // NoRow and Decode are about the answer: the transaction goes on
    }))
    .unwrap();
}

fn a_broken_unique_key_is_named_alike(on: Fixture) {
    on.batch(
        "CREATE TABLE people (id TEXT NOT NULL PRIMARY KEY, env TEXT NOT NULL, email TEXT NOT NULL, secret TEXT NOT NULL UNIQUE, state TEXT NOT NULL);
         CREATE UNIQUE INDEX people_by_email ON people (env, email);
         CREATE UNIQUE INDEX people_one_active ON people (env) WHERE state = 'active';
         CREATE UNIQUE INDEX people_one_next ON people (env) WHERE state = 'next';
         CREATE TABLE pairs (a TEXT NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b))",
    );
    let put = |id: &'static str, email: &'static str, secret: &'static str, state: &'static str| {
        let sql = "INSERT INTO people (id, env, email, secret, state) VALUES ($1, 'env', $2, $3, $4)";
        on.wait(on.db.write(move |tx| tx.execute(sql, params![id, email, secret, state])))
    };
    put("1", "e1", "s1", "active").unwrap();
    put("2", "e2", "s2", "next").unwrap();
    let violation = |constraint: &str| Err(DbError::Unique { constraint: constraint.into() });
    assert_eq!(put("1", "e3", "s3", "gone"), violation("people_pkey"));
    assert_eq!(put("3", "e1", "s3", "gone"), violation("people_by_email"));
    assert_eq!(put("3", "e3", "s1", "gone"), violation("people_secret_key"));
    assert!(put("3", "e3", "s3", "active").unwrap_err().is_unique("people_one_active"));
    assert!(put("3", "e3", "s3", "next").unwrap_err().is_unique("people_one_next"));
    assert!(!put("3", "e3", "s3", "next").unwrap_err().is_unique("people_by_email"));
    let pair = || on.wait(on.db.write(|tx| tx.execute("INSERT INTO pairs (a, b) VALUES ('a', 'b')", &[])));
    pair().unwrap();
    assert_eq!(pair(), violation("pairs_pkey"));
}

fn a_closure_that_swallows_a_failed_statement_is_answered_with_it(on: Fixture) {
    on.wait(insert(&on.db, "a".into())).unwrap();
    let outcome = on.wait(on.db.write(|tx| {
        tx.execute(INSERT, params!["b"])?;
        let violated = tx.execute(INSERT, params!["a"]).unwrap_err();
        assert_eq!(tx.list(LIST, &[]).map(drop), Err(violated));
        Ok::<_, DbError>(())
    }));
    assert_eq!(outcome, Err(DbError::Unique { constraint: "codes_pkey".into() }));
    assert_eq!(on.list(), ["a"]);
}

fn a_row_that_should_be_alone_and_is_not_is_an_error(on: Fixture) {
    on.wait(insert(&on.db, "a".into())).unwrap();
    on.wait(insert(&on.db, "b".into())).unwrap();
    let taken = on.wait(on.db.write(|tx| tx.take_once("UPDATE codes SET used_at = 1 WHERE used_at IS NULL RETURNING id", &[]).map(drop)));
    assert!(matches!(taken, Err(DbError::Other(_))), "{taken:?}");
    let unused = on.wait(on.db.read(|tx| tx.one("SELECT COUNT(*) FROM codes WHERE used_at IS NULL", &[])?.int()));
    assert_eq!(unused, Ok(2));
}

fn foreign_keys_hold(on: Fixture) {
    on.batch("CREATE TABLE uses (code TEXT NOT NULL REFERENCES codes (id) ON DELETE CASCADE)");
    let r#use = |code: &'static str| on.wait(on.db.write(move |tx| tx.execute("INSERT INTO uses (code) VALUES ($1)", params![code])));
    assert!(matches!(r#use("a"), Err(DbError::Other(_))));
    on.wait(insert(&on.db, "a".into())).unwrap();
    assert_eq!(r#use("a"), Ok(1));
    assert_eq!(on.wait(on.db.write(|tx| tx.execute("DELETE FROM codes", &[]))), Ok(1));
    assert_eq!(on.wait(on.db.read(|tx| tx.one("SELECT COUNT(*) FROM uses", &[])?.int())), Ok(0));
}

fn a_commit_that_fails_is_ok_for_nobody(on: Fixture) {
    on.batch("CREATE TABLE later (code TEXT NOT NULL REFERENCES codes (id) DEFERRABLE INITIALLY DEFERRED)");
    let broken = || on.db.write(|tx| tx.execute("INSERT INTO later (code) VALUES ('missing')", &[]));
    assert!(on.wait(broken()).is_err());
    let hold = Hold::the_writer(&on);
    let (broken, also_broken) = (queued(broken()), queued(broken()));
    let refused = queued(on.db.write(|tx| tx.execute(INSERT, params!["b"]).map_err(Refused::from).and(Err::<(), _>(Refused::Odd(1)))));
    hold.release();
    assert!(on.wait(broken).is_err());
    assert!(on.wait(also_broken).is_err());
    assert!(on.wait(refused).is_err());
    on.wait(insert(&on.db, "a".into())).unwrap();
    assert_eq!(on.list(), ["a"]);
}

fn errors_repeat_no_value(on: Fixture) {
    on.batch("CREATE TABLE strict_ones (a TEXT NOT NULL UNIQUE CHECK (length(a) < 15), b TEXT REFERENCES codes (id), c BIGINT)");
    for (sql, value) in [
        ("INSERT INTO strict_ones (a) VALUES ($1)", Some("hunter2, much too long")),
        ("INSERT INTO strict_ones (a) VALUES ($1), ($1)", Some("hunter2")),
        ("INSERT INTO strict_ones (b) VALUES ($1)", Some("hunter2")),
        ("INSERT INTO strict_ones (a, b) VALUES ('x', $1)", Some("hunter2")),
        ("INSERT INTO strict_ones (a) VALUES ($1)", None),
        ("INSERT INTO strict_ones (a) VALUES ('x' || $1 || $2)", Some("hunter2")),
        ("INSERT INTO strict_ones (nothing) VALUES ($1)", Some("hunter2")),
        ("INSERT INTO strict_ones\n(a) VALUES\n($1))", Some("hunter2")),
        ("SELECT json_extract_path($1) FROM nowhere", Some("hunter2")),
    ] {
        let error = on.wait(on.db.write(move |tx| tx.execute(sql, params![value]))).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains('\n'), "{sql}: {shown}");
        }
    }
    if on.db.engine() == Engine::Postgres {
        let wrong_type = on.wait(on.db.write(|tx| tx.execute("UPDATE codes SET used_at = $1", params!["hunter2"]))).unwrap_err();
        assert!(matches!(&wrong_type, DbError::Other(reason) if !reason.contains("hunter2") && reason.contains("int8")), "{wrong_type}");
        let cast = on.wait(on.db.write(|tx| tx.execute("UPDATE codes SET used_at = CAST($1 AS TEXT)::BIGINT", params!["hunter2"])));
        assert_eq!(cast, Err(DbError::Other("SQLSTATE 22P02".into())));
    }
}

fn a_statement_can_be_checked_without_running_it(on: Fixture) {
    for sql in [INSERT, TAKE, COUNT, LIST, "DELETE FROM codes WHERE (used_at, id) < ($1, $2)"] {
        on.db.check_sql(sql).unwrap();
    }
    for sql in
        ["SELECT missing FROM codes", "SELEC 1", "SELECT 1 FROM nowhere", "SELECT 1; SELECT 2", "INSERT INTO codes (id) VALUES ($1, $2)"]
    {
        let error = on.db.check_sql(sql).unwrap_err();
        assert!(matches!(&error, DbError::Other(reason) if !reason.contains('\n')), "{sql}: {error:?}");
    }
    on.wait(insert(&on.db, "a".into())).unwrap();
    on.db.check_sql("DELETE FROM codes").unwrap();
    assert_eq!(on.count(), 1);
}

fn close_finishes_what_was_queued_and_refuses_the_rest(on: Fixture) {
    let hold = Hold::the_writer(&on);
    let waiting: Vec<_> = (0..50).map(|n| queued(insert(&on.db, format!("c{n}")))).collect();
    thread::scope(|scope| {
        let closing = scope.spawn(|| on.db.close());
        while queued(on.db.ping()).as_mut().poll(&mut Context::from_waker(Waker::noop())) != std::task::Poll::Ready(Err(DbError::Closed)) {
            thread::yield_now();
        }
        hold.release();
        closing.join().unwrap();
    });
    let mut pinged = BTreeSet::new();
    for (n, write) in waiting.into_iter().enumerate() {
        assert_eq!(on.wait(write), Ok(1));
        pinged.insert(n);
    }
    assert_eq!(pinged.len(), 50);
    assert_eq!(on.wait(insert(&on.db, "late".into())), Err(DbError::Closed));
    assert_eq!(on.wait(on.db.read(|tx| tx.one(COUNT, &[])?.int())), Err(DbError::Closed));
    assert_eq!(on.wait(on.db.scan(|tx| tx.one(COUNT, &[])?.int())), Err(DbError::Closed));
    assert_eq!(on.db.migrate(), Err(DbError::Closed));
    on.db.close();
    let again = Db::open(&on.config).unwrap();
    assert_eq!(on.wait(again.read(|tx| tx.one(COUNT, &[])?.int())), Ok(50));
}

fn a_sound_database_answers_ping_and_integrity(on: Fixture) {
    on.wait(on.db.ping()).unwrap();
    on.db.integrity().unwrap();
}

#[test]
fn every_file_in_the_migrations_folder_is_listed_in_order() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".sql")?.to_owned()))
        .collect();
    files.sort();
    assert_eq!(files, MIGRATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (number, file) in (1..).zip(&files) {
        assert!(file.starts_with(&format!("{number:04}_")), "{file}");
    }
}

const THREE: &[Migration] = &[
    ("0001_one", "CREATE TABLE one (\n  a TEXT)"),
    ("0002_two", "CREATE TABLE two (a TEXT)"),
    ("0003_three", "CREATE TABLE three (a TEXT); INSERT INTO three (a) VALUES ('$1')"),
];

#[derive(Debug, PartialEq)]
enum Refused {
    Odd(i64),
    Db(DbError),
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// A database of one test's own with the table `codes`.
struct Fixture {
    db: Db,
    config: DbConfig,
    runtime: Runtime,
    folder: Option<tempfile::TempDir>,
}

impl Fixture {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::new(format!("sqlite:{}", folder.path().join("db").display()));
        Self::open(config, Some(folder))
    }

    fn postgresql() -> Self {
        Self::postgresql_with(4)
    }

    fn postgresql_with(connections: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("db_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::open(DbConfig { url: postgresql_url(), connections, schema: Some(schema) }, None)
    }

    fn open(config: DbConfig, folder: Option<tempfile::TempDir>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let fixture = Self { db: Db::open(&config).unwrap(), config, runtime, folder };
        fixture.batch("CREATE TABLE codes (id TEXT NOT NULL PRIMARY KEY, used_at BIGINT)");
        fixture
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.handle().block_on(future)
    }

    fn batch(&self, sql: &'static str) {
        self.db.run(Mode::Write, move |tx| tx.batch(sql)).unwrap();
    }

    fn count(&self) -> i64 {
        self.wait(self.db.read(|tx| tx.one(COUNT, &[])?.int())).unwrap()
    }

    fn list(&self) -> Vec<String> {
        self.wait(self.db.scan(|tx| tx.list(LIST, &[])?.iter_mut().map(|row| row.text()).collect::<Result<_, DbError>>())).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    fn backend(&self) -> i64 {
        self.wait(self.db.read(backend_of)).unwrap()
    }

    fn kill(&self, backend: i64) {
        terminate(&Db::open(&self.config).unwrap(), backend);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(schema) = self.config.schema.take() {
            self.db.close();
            let dropped = Db::open(&DbConfig { connections: 1, ..self.config.clone() }).and_then(|db| {
                db.run(Mode::Write, move |tx| tx.batch(&format!("SET LOCAL client_min_messages = error; DROP SCHEMA {schema} CASCADE")))
            });
            if !thread::panicking() {
                dropped.unwrap();
            }
        }
    }
}

fn postgresql_url() -> String {
    std::env::var("GATEWRIGHT_TEST_PG").expect("set GATEWRIGHT_TEST_PG, or run cargo xtask test")
}

fn insert(db: &Db, id: String) -> impl Future<Output = Result<u64, DbError>> + Send + 'static {
    let db = db.clone();
    async move { db.write(move |tx| tx.execute(INSERT, params![&id])).await }
}

fn backend_of(tx: &mut Tx<'_>) -> Result<i64, DbError> {
    tx.one("SELECT pg_backend_pid()", &[])?.int()
}

/// Waits until the backend is gone, so that no test depends on how fast it goes.
fn terminate(db: &Db, backend: i64) {
    let ended = db.run(Mode::Write, move |tx| tx.one("SELECT pg_terminate_backend($1, 10000)", params![backend])?.bool());
    assert_eq!(ended, Ok(true));
}

/// Polls once: the transaction is in the queue, in the order of the calls.
fn queued<'a, T: Send + 'a>(write: impl Future<Output = T> + Send + 'a) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    let mut write = Box::pin(write);
    let mut outcome = match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(outcome) => return Box::pin(std::future::ready(outcome)),
        std::task::Poll::Pending => write,
    };
    Box::pin(std::future::poll_fn(move |context| outcome.as_mut().poll(context)))
}

/// Keeps the first connection busy inside a transaction: on SQLite that is the writer, and what is queued meanwhile forms one group.
struct Hold {
    release: mpsc::Sender<()>,
    held: Pin<Box<dyn Future<Output = Result<(), DbError>> + Send>>,
    handle: tokio::runtime::Handle,
}

impl Hold {
    fn the_writer(on: &Fixture) -> Self {
        let (release, released) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let (db, released) = (on.db.clone(), Mutex::new(released));
        let write = async move {
            db.write(move |_| {
                started.send(()).map_err(|_| DbError::NoRow)?;
                released.lock().unwrap().recv().map_err(|_| DbError::NoRow)
            })
            .await
        };
        let held = queued(write);
        start.recv().unwrap();
        Self { release, held, handle: on.runtime.handle().clone() }
    }

    fn release(self) {
        self.release.send(()).unwrap();
        self.handle.block_on(self.held).unwrap();
    }
}
