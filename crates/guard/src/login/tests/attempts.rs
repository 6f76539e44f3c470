use super::*;
use crate::login::attempt::MAX_ATTEMPTS_LEN;

#[test]
fn the_cookie_of_an_attempt_is_out_of_reach_of_scripts_and_sibling_hosts_and_ends_after_ten_minutes() {
    let login = begin(1);
    let (name, attributes) = login.set_cookie.split_once('=').unwrap();
    assert_eq!(name, format!("__Host-wos_session_login_{}", &state(&login)[..8]));
    assert!(attributes.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600"), "{attributes}");
    for session in [
        json!({"password": KEY, "cookie_name": "__Host-wos_session"}),
        json!({"password": KEY, "cookie_name": "__Secure-wos_session", "domain": "example.com"}),
    ] {
        let login = begin_login(&config_with(session), REDIRECT_URI, &LoginOptions::default(), &Many::default(), &SeededRng::new(1), now());
        assert!(login.unwrap().set_cookie.starts_with("__Host-wos_session_login_"));
    }
    let insecure = config_with(json!({"password": KEY, "secure": false}));
    let login = begin_login(&insecure, REDIRECT_URI, &LoginOptions::default(), &Many::default(), &SeededRng::new(1), now()).unwrap();
    assert!(login.set_cookie.starts_with("wos_session_login_") && !login.set_cookie.contains("Secure"), "{}", login.set_cookie);
    assert!(finish_login(&insecure, &answer(&login), &many(&[&cookie(&login)]), now()).is_ok());
}

#[test]
fn the_cookie_shows_neither_verifier_nor_state() {
    let begun = begin(1);
    let debug = format!("{begun:?}");
    assert!(!debug.contains(&parameters(&begun.url)["state"]) && !debug.contains(cookie(&begun).split_once('=').unwrap().1), "{debug}");
    let login = begin(1);
    let exchange = finish(&answer(&login), &cookie(&login), now()).unwrap();
    assert!(
        !login.set_cookie.contains(exchange.code_verifier.reveal().as_str())
            && !login.url.contains(exchange.code_verifier.reveal().as_str())
    );
    assert!(!login.set_cookie.contains(&state(&login)));
    assert!(!format!("{exchange:?}").contains("01CODE"));
}

#[test]
fn parallel_tabs_each_finish_their_own_sign_in() {
    let first = begin_at(1, Some("/a"), "", now());
    let second = begin_at(2, Some("/b"), &cookie(&first), now());
    assert!(second.clear_cookies.is_empty());
    let sent = format!("{}; {}", cookie(&first), cookie(&second));
    assert_eq!(finish(&answer(&second), &sent, now()).unwrap().return_to, "/b");
    assert_eq!(finish(&answer(&first), &sent, now()).unwrap().return_to, "/a");
}

#[test]
fn tampering_with_the_cookie_is_refused() {
    let login = begin(1);
    let (name, value) = cookie(&login).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    for at in 0..value.len() {
        let mut altered = value.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(reason(&answer(&login), &format!("{name}={altered}")), LoginFailure::NotBegunHere, "at {at}");
        assert_eq!(reason(&answer(&login), &format!("{name}={}", &value[..at])), LoginFailure::NotBegunHere, "cut at {at}");
    }
}

#[test]
fn an_attempt_of_another_password_or_client_is_refused() {
    let login = begin(1);
    for config in [
        config_with(json!({"password": "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})),
        Config { client_id: "client_02".to_owned(), ..config() },
        Config { session: None, ..config() },
    ] {
        let problem = finish_login(&config, &answer(&login), &many(&[&cookie(&login)]), now()).unwrap_err();
        assert_eq!(problem.reason, LoginFailure::NotBegunHere);
    }
}

#[test]
fn format_confusion_a_sealed_session_is_no_attempt_and_an_attempt_is_no_session() {
    let (config, login) = (config(), begin(1));
    let settings = config.session.as_ref().unwrap();
    let response = json!({"access_token": "a", "refresh_token": "r"}).as_object().unwrap().clone();
    let session = SealedSession::from_response(response).unwrap();
    let sealed = crate::session::seal_session(settings, &session, &SeededRng::new(1), now()).unwrap();
    let (name, value) = cookie(&login).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    assert_eq!(reason(&answer(&login), &format!("{name}={sealed}")), LoginFailure::NotBegunHere);
    assert!(crate::session::open_session(settings, &value, now()).is_err());
}

#[test]
fn an_attempt_lasts_ten_minutes_and_its_end_clears_it() {
    let login = begin(1);
    assert!(finish(&answer(&login), &cookie(&login), after(599)).is_ok());
    for late in [after(600), now().minus(Duration::from_secs(61))] {
        let problem = finish(&answer(&login), &cookie(&login), late).unwrap_err();
        assert_eq!(problem.reason, LoginFailure::Expired);
        assert_eq!(problem.return_to.as_deref(), Some("/expenses?month=3"));
        assert!(problem.clear_cookie.unwrap().contains("Max-Age=0"));
    }
}

#[test]
fn many_attempts_push_out_the_oldest_and_what_is_no_attempt() {
    let logins: Vec<Login> = (0..8).map(|at| begin_at(at, None, "", after(at))).collect();
    let mut sent: Vec<String> = logins.iter().map(cookie).collect();
    sent.rotate_left(3);
    sent.push(
        "__Host-wos_session_login_AAAAAAAA=noise; __Host-wos_session_login_toolong_1=x; wos_session=s; __Host-wos_session_login_;x=y"
            .to_owned(),
    );
    let ninth = begin_at(99, None, &sent.join("; "), after(9));
    let mut cleared: Vec<_> = ninth.clear_cookies.iter().map(|cookie| cookie.split_once('=').unwrap().0).collect();
    cleared.sort_unstable();
    let mut expected = ["__Host-wos_session_login_AAAAAAAA".to_owned(), cookie(&logins[0]).split_once('=').unwrap().0.to_owned()];
    expected.sort_unstable();
    assert_eq!(cleared, expected);
    let late = begin_at(100, None, &sent.join("; "), after(700));
    assert_eq!(late.clear_cookies.len(), 9);
}

#[test]
fn attempts_with_long_ways_back_stay_within_four_kilobytes_together() {
    let path = format!("/{}", "x".repeat(1000));
    let mut jar: Vec<String> = Vec::new();
    for at in 0..20 {
        let login = begin_at(at, Some(&path), &jar.join("; "), after(at));
        jar.retain(|cookie| !login.clear_cookies.iter().any(|clear| clear.split_once('=').unwrap().0 == cookie.split_once('=').unwrap().0));
        jar.push(cookie(&login));
        assert!(jar.iter().map(String::len).sum::<usize>() <= MAX_ATTEMPTS_LEN);
        assert!(finish(&answer(&login), &jar.join("; "), after(at)).is_ok());
    }
    assert!(jar.len() > 1);
}
