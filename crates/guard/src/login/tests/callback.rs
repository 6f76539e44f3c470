use super::*;

#[test]
fn only_a_lone_code_may_be_an_impersonation() {
    assert_eq!(find_unsolicited("code=c").as_ref().map(|code| code.reveal().as_str()), Some("c"));
    for other in ["", "code=", "state=x", "code=c&state=", "code=c&state=x", "code=c&code=c", "code=c&error=access_denied"] {
        assert!(find_unsolicited(other).is_none(), "{other}");
    }
}

/// The attacker signs in as themselves, keeps the callback's URL and has the victim's browser open it.
#[test]
fn login_csrf_a_callback_without_the_cookie_of_its_sign_in_is_refused() {
    let (attackers, victims) = (begin(1), begin(2));
    for sent in ["", &cookie(&victims), "__Host-wos_session_login_=x"] {
        let problem = finish(&answer(&attackers), sent, now()).unwrap_err();
        assert_eq!((problem.reason, problem.clear_cookie, problem.return_to), (LoginFailure::NotBegunHere, None, None), "{sent}");
    }
}

#[test]
fn login_csrf_by_an_attempt_renamed_to_another_ones_name_is_refused() {
    let (attackers, victims) = (begin(1), begin(2));
    let value = cookie(&attackers).split_once('=').unwrap().1.to_owned();
    let renamed = format!("{}={value}", cookie(&victims).split_once('=').unwrap().0);
    assert_eq!(reason(&answer(&victims), &renamed), LoginFailure::NotBegunHere);
    assert_eq!(begin_at(3, None, &renamed, now()).clear_cookies.len(), 1);
}

#[test]
fn login_csrf_by_a_state_that_shares_only_its_front_is_refused() {
    let login = begin(1);
    let mut other = state(&login);
    other.replace_range(31.., if other.ends_with('A') { "B" } else { "A" });
    assert_eq!(reason(&format!("code=c&state={other}"), &cookie(&login)), LoginFailure::NotBegunHere);
}

#[test]
fn cookie_tossing_two_attempts_of_one_name_are_refused() {
    let login = begin(1);
    let name = cookie(&login).split_once('=').unwrap().0.to_owned();
    let sent = format!("{}; {name}=planted", cookie(&login));
    assert_eq!(reason(&answer(&login), &sent), LoginFailure::NotBegunHere);
}

#[test]
fn what_the_server_refused_is_told_as_plain_text() {
    let login = begin(1);
    let query = format!("error=access_denied&error_description=You+said%0D%0Ano%21%E2%80%AE&state={}", state(&login));
    let problem = finish(&query, &cookie(&login), now()).unwrap_err();
    assert_eq!(problem.message(), "The sign-in was not completed: You said  no! (access_denied)");
    assert!(problem.clear_cookie.is_some());
    let long = format!("error=e&error_description={}&state={}", "x".repeat(5000), state(&login));
    assert!(finish(&long, &cookie(&login), now()).unwrap_err().message().len() < 400);
    let bare = format!("error=server_error&state={}", state(&login));
    assert_eq!(finish(&bare, &cookie(&login), now()).unwrap_err().message(), "The sign-in was not completed (server_error).");
}

/// Otherwise a link to the callback shows the attacker's words on the victim's page.
#[test]
fn an_error_text_from_a_stranger_is_not_shown() {
    for query in ["error=x&error_description=Call+555", "error=x&error_description=Call+555&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let problem = finish(query, &cookie(&begin(1)), now()).unwrap_err();
        assert!(!problem.message().contains("555"), "{}", problem.message());
    }
}

#[test]
fn an_error_beside_a_code_does_not_sign_in() {
    let login = begin(1);
    let problem = finish(&format!("{}&error=access_denied", answer(&login)), &cookie(&login), now()).unwrap_err();
    assert!(matches!(problem.reason, LoginFailure::Refused { .. }));
}

#[test]
fn parameter_pollution_is_refused() {
    let login = begin(1);
    let answer = answer(&login);
    for query in
        [format!("{answer}&code=other"), format!("{answer}&{answer}"), format!("{answer}&state="), format!("error=a&error=b&{answer}")]
    {
        assert!(matches!(reason(&query, &cookie(&login)), LoginFailure::Malformed(_)), "{query}");
    }
}

#[test]
fn a_callback_without_a_usable_code_is_refused() {
    let login = begin(1);
    let state = state(&login);
    for query in [format!("state={state}"), format!("code=&state={state}"), format!("code={}&state={state}", "c".repeat(5000))] {
        assert!(matches!(reason(&query, &cookie(&login)), LoginFailure::Malformed(_)), "{query}");
    }
    for query in ["", "code=c", "?", "code=c&state=", "code=c&state=%FF%FF%FF%FF%FF%FF%FF%FF", "code=c&state=é", "code=c&state=AAAA"] {
        assert_eq!(reason(query, &cookie(&login)), LoginFailure::NotBegunHere, "{query}");
    }
    assert!(matches!(reason(&"a".repeat(20_000), ""), LoginFailure::Malformed(_)));
    assert!(finish(&format!("?{}", answer(&login)), &cookie(&login), now()).is_ok());
}

proptest! {
    #[test]
    fn no_callback_makes_finishing_panic(
        query in "\\PC{0,80}|(code|state|error|error_description)=[a-zA-Z0-9%&=+_-]{0,60}",
        sent in proptest::collection::vec(any::<u8>(), 0..60),
        value in "[A-Za-z0-9_-]{0,80}",
    ) {
        let login = begin(1);
        let name = cookie(&login).split_once('=').unwrap().0.to_owned();
        let planted = format!("{name}={value}");
        for query in [query, answer(&login)] {
            let headers: Many = [sent.as_slice(), planted.as_bytes()].into_iter().collect();
            prop_assert!(finish_login(&config(), &query, &headers, now()).is_err());
            let options = LoginOptions { return_to: Some(&query), login_hint: Some(&query), ..LoginOptions::default() };
            prop_assert!(begin_login(&config(), &query, &options, &headers, &SeededRng::new(2), now()).is_ok());
        }
    }
}
