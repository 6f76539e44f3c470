use super::*;

#[test]
fn the_authorize_url_has_what_the_contract_asks_for_and_nothing_else() {
    let login = begin(1);
    assert!(login.url.starts_with("https://auth.example.com/user_management/authorize?response_type=code&client_id=client_01&"));
    let parameters = parameters(&login.url);
    let names: Vec<_> = parameters.keys().map(String::as_str).collect();
    assert_eq!(names, ["client_id", "code_challenge", "code_challenge_method", "provider", "redirect_uri", "response_type", "state"]);
    assert_eq!((parameters["provider"].as_str(), parameters["code_challenge_method"].as_str()), ("authkit", "S256"));
    assert_eq!(parameters["redirect_uri"], REDIRECT_URI);
    assert!(pkce::is_challenge(&parameters["code_challenge"]));
    assert_eq!(parameters["state"].len(), 32);
}

#[test]
fn hints_are_passed_on_and_cannot_smuggle_parameters() {
    let options = LoginOptions {
        screen_hint: Some("sign-up"),
        organization_id: Some("org_1&redirect_uri=https://evil.example"),
        login_hint: Some("ada+1@example.com#x"),
        max_age: Some(0),
        acr_values: Some("aal2&prompt=none"),
        prompt: Some("login"),
        ..LoginOptions::default()
    };
    let login = begin_login(&config(), REDIRECT_URI, &options, &Many::default(), &SeededRng::new(1), now()).unwrap();
    let parameters = parameters(&login.url);
    assert_eq!(parameters["organization_id"], "org_1&redirect_uri=https://evil.example");
    assert_eq!(parameters["redirect_uri"], REDIRECT_URI);
    assert_eq!(parameters["login_hint"], "ada+1@example.com#x");
    assert_eq!(
        (parameters["screen_hint"].as_str(), parameters["max_age"].as_str(), parameters["prompt"].as_str()),
        ("sign-up", "0", "login")
    );
    assert_eq!(parameters["acr_values"], "aal2&prompt=none");
    assert!(!login.url.contains('#'));
}

#[test]
fn exactly_one_selector_is_named_and_screens_are_hinted_at_only_where_there_are_some() {
    let url = |options: LoginOptions<'_>| {
        parameters(&begin_login(&config(), REDIRECT_URI, &options, &Many::default(), &SeededRng::new(1), now()).unwrap().url)
    };
    let google = url(LoginOptions { provider: Some("GoogleOAuth"), screen_hint: Some("sign-up"), ..LoginOptions::default() });
    assert_eq!((google["provider"].as_str(), google.get("screen_hint")), ("GoogleOAuth", None));
    let connection = url(LoginOptions { connection_id: Some("conn_1"), ..LoginOptions::default() });
    assert_eq!((connection.get("provider"), connection["connection_id"].as_str()), (None, "conn_1"));
}
