//! `cargo xtask bench abuse`: a day of attacks beside honest people, by a clock that is moved, and a flood of passwords by the real one.
//! Prints what attackers got beside the bound that docs/guides/abuse.md states, and how many honest people were refused; ends with 1 when
//! a bound does not hold. On both databases, if `GATEWRIGHT_TEST_PG` names a PostgreSQL; `--only day` or `--only flood`.

#![expect(clippy::print_stdout, reason = "figures are printed")]
#![expect(clippy::cast_precision_loss, reason = "counts of tries are far below 2^52")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, Method};
use gatewright_db::params;
use gatewright_server::testkit::{Answer, Browser, On, START, TestApp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PASSWORD: &str = "correct horse battery staple";
const DAY: u64 = 86_400;
/// What docs/guides/abuse.md says.
const PASSWORDS_PER_ACCOUNT: u64 = 100;
const CODES_PER_ACCOUNT: u64 = 250;
/// Of a code, and how long it works.
const TRIES_PER_CODE: u64 = 5;
const CODE_SECONDS: u64 = 600;
const HONEST_REFUSED: f64 = 0.001;
/// A sign-in on a known device under a flood, in times of what it takes alone.
const FLOOD_TIMES: f64 = 40.0;

/// Tried by the day's attackers before anything else; the password of somebody weak is one of them.
const DICTIONARY: u64 = 1_000;

struct Size {
    people: u64,
    addresses: u64,
    hammered: u64,
    flood: u64,
    guesses: u64,
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|one| one == "--quick");
    let size = if quick {
        Size { people: 200, addresses: 1_000, hammered: 2_000, flood: 1_500, guesses: 8_000 }
    } else {
        Size { people: 1_000, addresses: 10_000, hammered: 20_000, flood: 6_000, guesses: 20_000 }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let mut engines = vec![On::Sqlite];
    if std::env::var_os("GATEWRIGHT_TEST_PG").is_some() {
        engines.push(On::Postgres);
    }
    let given: Vec<String> = std::env::args().collect();
    let only = given.iter().position(|one| one == "--only").and_then(|at| given.get(at + 1));
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut over = 0;
    for on in engines {
        println!("{on:?}:");
        if wanted("day") {
            over += runtime.block_on(a_day(on, &size));
        }
        if wanted("flood") {
            over += runtime.block_on(a_flood_of_passwords(on, if quick { 3 } else { 10 }));
        }
    }
    if over == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(what: &str, figure: &str, bound: &str, holds: bool) -> u32 {
    println!("{:<58} {figure:>16}  bound {bound:<16} {}", what, if holds { "ok" } else { "OVER" });
    u32::from(!holds)
}

/// Who does something at a moment of the day.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A person signs in through a backend, from a device that is known by then or not.
    Person(u64),
    /// The same at the pages.
    AtThePages(u64),
    NewPerson(u64),
    /// The owner of the account that is hammered, on the device of always.
    Owner,
    /// One of the addresses with the next guess for an account.
    Stuffing(u64),
    Hammering(u64),
    Flood(u64),
    Guess(u64),
    Sweep,
}

#[derive(Default)]
struct Told {
    honest: u64,
    refused: Vec<String>,
    stuffed: u64,
    taken: u64,
    flood_made: u64,
    flood_checked: u64,
    flood_refused: u64,
    codes_guessed: u64,
    guesses: HashMap<u64, u64>,
}

#[expect(clippy::too_many_lines, reason = "the day is one story")]
async fn a_day(on: On, size: &Size) -> u32 {
    let app = TestApp::start_with(on, |config| {
        config.limits.enabled = true;
        config.trusted_proxies = vec!["127.0.0.1".to_owned()];
        // Solved in no time here: what it costs a browser is not what is measured.
        (config.challenge.difficulty, config.challenge.max_difficulty) = (8, 10);
    })
    .await;
    for number in 0..size.people {
        // One in twenty has a password that is in the attackers' dictionary, somewhere.
        let weak = number % 20 == 0;
        let password = if weak { guess(number * 37 % DICTIONARY) } else { PASSWORD.to_owned() };
        app.user(&person(number), &password).await;
    }
    app.user("owner@example.test", PASSWORD).await;

    let mut day: Vec<(u64, Deed)> = Vec::new();
    let mut chance = Chance(7);
    for number in 0..size.people {
        // Some at any time, and most between eight and ten.
        for _ in 0..2 {
            day.push((chance.below(DAY), if number % 4 == 3 { Deed::AtThePages(number) } else { Deed::Person(number) }));
        }
        day.push((8 * 3_600 + chance.below(7_200), if number % 4 == 3 { Deed::AtThePages(number) } else { Deed::Person(number) }));
    }
    day.extend((0..size.people / 10).map(|number| (chance.below(DAY), Deed::NewPerson(number))));
    day.extend((0..48).map(|half_hour| (half_hour * 1_800 + 900, Deed::Owner)));
    day.extend((0..size.addresses * 5).map(|number| (chance.below(DAY), Deed::Stuffing(number))));
    day.extend((0..size.hammered).map(|number| (chance.below(DAY), Deed::Hammering(number))));
    // The flood comes within an hour in the middle of the morning.
    day.extend((0..size.flood).map(|number| (9 * 3_600 + chance.below(3_600), Deed::Flood(number))));
    day.extend((0..size.guesses).map(|number| (chance.below(DAY), Deed::Guess(number))));
    day.extend((0..24).map(|hour| (hour * 3_600, Deed::Sweep)));
    day.sort_by_key(|(at, _)| *at);

    let began = Instant::now();
    let mut told = Told::default();
    let mut next_guess: HashMap<u64, u64> = HashMap::new();
    // Tries left of the code that each account was mailed last, and when it dies.
    let mut codes: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut browsers: HashMap<u64, Browser<'_>> = HashMap::new();
    let mut owner = browser_at(&app, "198.51.100.7");
    expect_in(&app.tenant.client_id, &mut owner, "owner@example.test", &mut told).await;
    for (at, deed) in day {
        let moment = START.plus(Duration::from_secs(at));
        if moment > app.now() {
            app.clock.advance(moment.since(app.now()));
        }
        match deed {
            Deed::Sweep => gatewright_server::run_jobs(app.cx()).await,
            Deed::Person(number) => {
                let weak = number % 20 == 0;
                let password = if weak { guess(number * 37 % DICTIONARY) } else { PASSWORD.to_owned() };
                let answer = by_backend(&app, &person(number), &password, &home(number), Some(&format!("device {number}"))).await;
                told.honest += 1;
                if answer.status != 200 {
                    told.refused.push(format!("{} at {at} s: {} {}", person(number), answer.status, answer.code()));
                }
            }
            Deed::AtThePages(number) => {
                let mut browser = browsers.remove(&number).unwrap_or_else(|| browser_at(&app, &home(number)));
                expect_in(&app.tenant.client_id, &mut browser, &person(number), &mut told).await;
                browsers.insert(number, browser);
            }
            Deed::Owner => expect_in(&app.tenant.client_id, &mut owner, "owner@example.test", &mut told).await,
            Deed::NewPerson(number) => {
                let mut browser = browser_at(&app, &home(number * 7 + 1));
                told.honest += 1;
                if let Err(why) = sign_up(&app, &mut browser, &format!("new{number}@example.test"), true).await {
                    told.refused.push(format!("a new person at {at} s: {why}"));
                }
            }
            Deed::Stuffing(number) => {
                // Each address has five tries, at five accounts.
                let (address, target) = (number % size.addresses, chance.below(size.people));
                let rank = next_guess.entry(target).or_default();
                told.stuffed += 1;
                let answer = by_backend(&app, &person(target), &guess(*rank), &attacker(address), None).await;
                if answer.status == 200 {
                    told.taken += 1;
                }
                // Who was told to wait tries the same again later.
                if answer.status != 429 {
                    *rank += 1;
                }
            }
            Deed::Hammering(number) => {
                let answer =
                    by_backend(&app, "owner@example.test", &guess(number), &attacker(number % 500), Some("a device of theirs")).await;
                assert_ne!(answer.status, 200, "no guess is right");
            }
            Deed::Flood(number) => {
                let mut browser = browser_at(&app, &attacker(20_000 + number % 300));
                match sign_up(&app, &mut browser, &format!("flood{number}@spam.example"), false).await {
                    Ok(()) => told.flood_made += 1,
                    Err(why) if why == "check" => told.flood_checked += 1,
                    Err(_) => told.flood_refused += 1,
                }
            }
            Deed::Guess(number) => {
                // Twenty accounts; a new mail whenever the last code is dead.
                let target = number % 20 + 1;
                let email = person(target);
                let (tries, dies) = codes.entry(target).or_default();
                if *tries == 0 || at >= *dies {
                    let sent = app.api(Method::POST, "/user_management/magic_auth", json!({"email": email})).await;
                    match sent.status {
                        201 => (*tries, *dies) = (TRIES_PER_CODE, at + CODE_SECONDS),
                        429 => {}
                        other => panic!("a mail is sent or is one too many: {other} {}", sent.text),
                    }
                }
                let code = format!("{:06}", chance.below(1_000_000));
                let grant = "urn:workos:oauth:grant-type:magic-auth:code";
                let body = json!({"grant_type": grant, "email": email, "code": code, "ip_address": attacker(number % 1_000)});
                match app.authenticate(body).await.code() {
                    "" => told.codes_guessed += 1,
                    "invalid_one_time_code" if *tries > 0 && at < *dies => {
                        *told.guesses.entry(target).or_default() += 1;
                        *tries -= 1;
                    }
                    _ => {}
                }
            }
        }
    }
    println!("a day of {} honest sign-ins and sign-ups among attacks, in {:.0} s", told.honest, began.elapsed().as_secs_f64());
    report(&app, size, &told).await
}

async fn report(app: &TestApp, size: &Size, told: &Told) -> u32 {
    let environment = app.tenant.environment.clone();
    // What a password check looked at, of each account: refusals by limits leave no event, those after the hundredth say so.
    let rows = app
        .cx()
        .db()
        .scan(move |tx| {
            tx.list("SELECT data FROM events WHERE environment_id = $1 AND event = 'authentication.password_failed'", params![&environment])
        })
        .await
        .expect("events are readable");
    let mut looked_at: HashMap<String, u64> = HashMap::new();
    for mut row in rows {
        let data: Value = serde_json::from_str(&row.text().expect("data")).expect("JSON");
        if data["error"]["code"] == "invalid_credentials" {
            *looked_at.entry(data["email"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let most = looked_at.values().copied().max().unwrap_or_default();
    let hammered = looked_at.get("owner@example.test").copied().unwrap_or_default();
    let weak = (0..size.people).filter(|number| number % 20 == 0 && number * 37 % DICTIONARY < PASSWORDS_PER_ACCOUNT).count() as u64;
    let mut over = 0;
    over += line(
        "stuffing: passwords looked at of one account, at most",
        &most.to_string(),
        &format!("<= {PASSWORDS_PER_ACCOUNT}"),
        most <= PASSWORDS_PER_ACCOUNT,
    );
    over += line(
        &format!("stuffing: accounts opened by {} guesses", told.stuffed),
        &told.taken.to_string(),
        &format!("<= {weak} weak"),
        told.taken <= weak,
    );
    over += line(
        &format!("hammering: {} guesses, looked at", size.hammered),
        &hammered.to_string(),
        &format!("<= {PASSWORDS_PER_ACCOUNT}"),
        hammered <= PASSWORDS_PER_ACCOUNT,
    );
    // An hour may touch two windows of one.
    let in_the_hour = 2 * u64::from(app.cx().config().limits.sign_ups_per_hour);
    over += line(
        &format!("flood: accounts begun by {} tries without a check", size.flood),
        &told.flood_made.to_string(),
        &format!("<= {} in an hour", in_the_hour),
        told.flood_made <= in_the_hour,
    );
    println!("{:<58} {:>16}", "flood: sent to the check", told.flood_checked);
    println!("{:<58} {:>16}", "flood: told to wait", told.flood_refused);
    let codes = told.guesses.values().copied().max().unwrap_or_default();
    over += line(
        "codes: guesses taken for one account, at most",
        &codes.to_string(),
        &format!("<= {CODES_PER_ACCOUNT} a day"),
        codes <= CODES_PER_ACCOUNT,
    );
    over += line("codes: guessed", &told.codes_guessed.to_string(), "0", told.codes_guessed == 0);
    let share = told.refused.len() as f64 / told.honest as f64;
    over += line("honest people refused", &format!("{:.3} %", share * 100.0), "< 0.1 %", share < HONEST_REFUSED);
    for refused in told.refused.iter().take(10) {
        println!("  refused: {refused}");
    }
    over
}

/// Strangers send as many passwords as they can; people on devices of theirs sign in meanwhile.
async fn a_flood_of_passwords(on: On, seconds: u64) -> u32 {
    let app = TestApp::start_with(on, |config| {
        (config.passwords.argon2_memory_kib, config.passwords.argon2_passes) = (19_456, 2);
        config.limits.enabled = true;
        config.limits.authenticate_per_email = u32::MAX;
    })
    .await;
    let app = Arc::new(app);
    app.user("owner@example.test", PASSWORD).await;
    let sign_in = |app: Arc<TestApp>| async move {
        let began = Instant::now();
        let answer = by_backend(&app, "owner@example.test", PASSWORD, "198.51.100.7", Some("phone")).await;
        (answer.status, began.elapsed())
    };
    let mut alone: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        alone.push(sign_in(app.clone()).await.1);
    }
    alone.sort();
    let one = alone[alone.len() / 2];
    let (stop, sent, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let before = memory("VmRSS:");
    let flood: Vec<_> = (0..200_u64)
        .map(|task| {
            let (app, stop, sent, turned_away) = (app.clone(), stop.clone(), sent.clone(), turned_away.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let email = format!("flood{}@spam.example", task * 1_000_000 + number);
                    let answer = by_backend(&app, &email, "not the password", &attacker(number % 60_000), None).await;
                    if answer.status == 429 {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        })
        .collect();
    let (mut honest, mut refused) = (Vec::new(), 0_u32);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let (status, took) = sign_in(app.clone()).await;
        if status == 200 {
            honest.push(took)
        } else {
            refused += 1
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let peak = memory("VmHWM:");
    stop.store(true, Ordering::Relaxed);
    for task in flood {
        task.await.expect("no panic");
    }
    honest.sort();
    let p99 = honest.get(honest.len() * 99 / 100).or(honest.last()).copied().unwrap_or_default();
    let passwords = &app.cx().config().passwords;
    let threads = passwords.hashing_threads();
    // Known devices wait for no stranger: what is left is to share the cores and the database with the flood.
    let bound = one.mul_f64(FLOOD_TIMES);
    println!(
        "a flood of passwords: {} sent in {seconds} s, {} turned away, {} honest sign-ins, {:.0} ms each when alone",
        sent.load(Ordering::Relaxed),
        turned_away.load(Ordering::Relaxed),
        honest.len(),
        one.as_secs_f64() * 1_000.0
    );
    let ms = |span: Duration| format!("{:.0} ms", span.as_secs_f64() * 1_000.0);
    let mut over = line("flood of passwords: p99 of honest sign-ins", &ms(p99), &format!("<= {}", ms(bound)), p99 <= bound);
    over += line("flood of passwords: honest people refused", &refused.to_string(), "0", refused == 0);
    let room = (threads as u64 + 1) * 33 + 64;
    let grown = peak.saturating_sub(before) >> 10;
    over += line("flood of passwords: memory more than before", &format!("{grown} MiB"), &format!("<= {room} MiB"), grown <= room);
    over
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn by_backend(app: &TestApp, email: &str, password: &str, address: &str, device: Option<&str>) -> Answer {
    let mut body = json!({"grant_type": "password", "email": email, "password": password, "ip_address": address});
    if let Some(device) = device {
        body["device_id"] = json!(device);
    }
    app.authenticate(body).await
}

fn authorize(client_id: &str, extra: &str) -> String {
    format!(
        "/user_management/authorize?response_type=code&client_id={client_id}&redirect_uri=http://localhost:8000/callback&provider=authkit{extra}"
    )
}

/// A sign-in at the pages; a check on the way is done.
async fn expect_in(client_id: &str, browser: &mut Browser<'_>, email: &str, told: &mut Told) {
    told.honest += 1;
    let first = browser.get(&authorize(client_id, "&prompt=login")).await;
    let page = browser.follow(first).await;
    let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
    let page = checked(browser, next).await;
    let page = if page.text.contains("action=\"/sign-in\"") {
        let next = browser.submit(&page, "/sign-in", &[("email", email)]).await;
        browser.follow(next).await
    } else {
        page
    };
    let mut done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    if done.location().is_some_and(|location| location.starts_with("/check")) {
        let page = checked(browser, done).await;
        done = browser.submit(&page, "/sign-in/password", &[("password", PASSWORD)]).await;
    }
    if done.location_parameter("code").is_none() {
        told.refused.push(format!("{email} at the pages: {}", done.status));
    }
}

/// A new account; who does not do the check is told that there is one.
async fn sign_up(app: &TestApp, browser: &mut Browser<'_>, email: &str, solves: bool) -> Result<(), String> {
    let first = browser.get(&authorize(&app.tenant.client_id, "&screen_hint=sign-up")).await;
    let mut page = browser.follow(first).await;
    for _ in 0..3 {
        if page.text.contains("action=\"/check\"") {
            if !solves {
                return Err("check".to_owned());
            }
            page = solve(browser, &page).await;
        }
        let done = browser.submit(&page, "/sign-up", &[("email", email), ("password", PASSWORD)]).await;
        match done.location() {
            Some(there) if there.starts_with("/verify-email") => return Ok(()),
            Some(there) if there.starts_with("/check") => page = browser.follow(done).await,
            _ => return Err(format!("{}", done.status)),
        }
    }
    Err("checked again and again".to_owned())
}

async fn checked(browser: &mut Browser<'_>, answer: Answer) -> Answer {
    let page = browser.follow(answer).await;
    if page.text.contains("action=\"/check\"") { solve(browser, &page).await } else { page }
}

/// What the script of the page does.
async fn solve(browser: &mut Browser<'_>, page: &Answer) -> Answer {
    let attribute =
        |name: &str| page.text.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    let (challenge, bits) = (attribute("data-challenge"), attribute("data-bits").parse::<u32>().unwrap_or_default());
    let solved = |number: &String| {
        let digest = Sha256::digest(format!("{challenge}.{number}"));
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).leading_zeros() >= bits
    };
    let solution = (0_u64..).map(|number| number.to_string()).find(solved).unwrap_or_default();
    let next = browser.submit(page, "/check", &[("solution", &solution)]).await;
    browser.follow(next).await
}

fn browser_at<'a>(app: &'a TestApp, address: &str) -> Browser<'a> {
    let mut browser = app.browser();
    browser.headers.push((HeaderName::from_static("x-forwarded-for"), address.to_owned()));
    browser
}

fn person(number: u64) -> String {
    format!("person{number}@example.test")
}

/// Half of them at home, the others in offices of fifty behind one address.
fn home(number: u64) -> String {
    if number.is_multiple_of(2) {
        return format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff);
    }
    format!("203.0.113.{}", number / 100 % 250 + 1)
}

fn attacker(number: u64) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

fn guess(rank: u64) -> String {
    format!("a guess of the list, number {rank}")
}

/// The same day each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
