use crate::running::{Said, gatewright, run};

const GOOD: &str = "public_url = \"https://auth.example.com\"\nmaster_key = \"abababababababababababababababababababababababababababababababab\"\n[mail]\nsmtp_url = \"smtps://user:secret@mail.example.com\"\n";

fn check(file: &str, variables: &[(&str, &str)]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gatewright.toml"), file).unwrap();
    run(gatewright(["serve", "--check", "--log", "error"]).current_dir(folder.path()).envs(variables.iter().copied()))
}

#[test]
fn a_good_configuration_can_be_served() {
    assert_eq!(check(GOOD, &[]).good(), "the configuration can be served\n");
    let variables = [
        ("GATEWRIGHT_PUBLIC_URL", "https://a.example"),
        ("GATEWRIGHT_MASTER_KEY", &"ab".repeat(32)),
        ("GATEWRIGHT_MAIL_SMTP_URL", "smtp://localhost"),
    ];
    assert_eq!(check("", &variables).good(), "the configuration can be served\n");
}

#[test]
fn every_mistake_in_the_configuration_is_one_line_of_key_problem_and_remedy() {
    let with = |line: &str| format!("{line}\n{GOOD}");
    let without = |start: &str| GOOD.lines().filter(|line| !line.starts_with(start)).map(|line| format!("{line}\n")).collect::<String>();
    for (file, key, problem, remedy) in [
        (with("publc_url = \"https://a.example\""), "publc_url", "there is no such key", "did you mean public_url?"),
        (with("limits.enabeld = true"), "limits.enabeld", "there is no such key", "did you mean limits.enabled?"),
        (with("limits.connections = \"many\""), "limits.connections", "is not a number", "digits"),
        (with("listen = \"4700\""), "listen", "invalid socket address", "0.0.0.0:4700"),
        (with("brand.color = \"red\""), "brand.color", "not a colour", "#RRGGBB"),
        (with("brand.radius = 99"), "brand.radius", "99", "0 to 16"),
        (with("trusted_proxies = [\"everyone\"]"), "trusted_proxies", "neither an address", "10.0.0.0/8"),
        (with("passwords.min_length = 4"), "passwords.min_length", "4", "8 to 64"),
        (with("public_url = "), "line 1", "not TOML", "see"),
        (without("master_key"), "master_key", "is not set", "gatewright master-key new"),
        (without("smtp_url"), "mail.smtp_url", "is not set", "smtps://"),
        (without("public_url"), "public_url", "is not set", "https://auth.example.com"),
        (GOOD.replace("https://auth", "http://auth"), "public_url", "http is only for loopback", "https"),
        (GOOD.replace("example.com\"\nmaster", "example.com/login\"\nmaster"), "public_url", "not a bare origin", "host and port only"),
        (GOOD.replace("abab", "ab"), "master_key", "hex digits", "gatewright master-key new"),
        (GOOD.replace("smtps://", "mail+"), "mail.smtp_url", "is not an SMTP URL", "smtps://"),
        (format!("{GOOD}from = \"nobody\""), "mail.from", "is not a mailbox", "Name <"),
    ] {
        let line = check(&file, &[]).refusal(2);
        for part in [key, problem, remedy] {
            assert!(line.contains(part), "{part:?} is not in {line:?} of\n{file}");
        }
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn every_mistake_in_a_variable_names_the_variable_and_the_nearest_one() {
    for (name, value, said) in [
        ("GATEWRIGHT_PUBLC_URL", "x", "did you mean GATEWRIGHT_PUBLIC_URL?"),
        ("GATEWRIGHT_LIMITS_CONNECTION", "5", "did you mean GATEWRIGHT_LIMITS_CONNECTIONS?"),
        ("GATEWRIGHT_LIMITS_ENABLED", "maybe", "neither true nor false"),
        ("GATEWRIGHT_LIMITS__BODY_BYTES", "1k", "is not a number"),
    ] {
        let line = check(GOOD, &[(name, value)]).refusal(2);
        assert!(line.starts_with(&format!("{name}: ")) && line.contains(said), "{line}");
    }
}

#[test]
fn a_missing_file_and_wrong_arguments_are_one_line() {
    let line = run(&mut gatewright(["serve", "--config", "no/such.toml"])).refusal(2);
    assert!(line.starts_with("no/such.toml: cannot be read"), "{line}");
    for arguments in [
        &["dev", "--prot", "1"][..],
        &["sreve"],
        &["dev", "--port", "99999"],
        &["dev", "--ephemeral", "--data", "x"],
        &["keys", "list", "--config", "a", "--data", "b"],
    ] {
        run(&mut gatewright(arguments)).refusal(2);
    }
    let line = run(&mut gatewright(["keys", "list", "--data", "no/such/folder"])).refusal(2);
    assert!(line.starts_with("--data: no/such/folder"), "{line}");
}

#[test]
fn a_command_without_a_server_asks_for_one_and_names_the_data_folder_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let identities = || run(gatewright(["identities"]).current_dir(folder.path())).refusal(2);
    let line = identities();
    assert!(line.starts_with("no gatewright.toml is here") && line.contains("--config") && line.contains("--data FOLDER"), "{line}");
    std::fs::create_dir(folder.path().join(".gatewright")).unwrap();
    let line = identities();
    assert!(line.contains("--data .gatewright"), "{line}");
}

#[test]
fn help_is_there_for_every_command() {
    for arguments in [
        &["--help"][..],
        &["dev", "--help"],
        &["serve", "--help"],
        &["doctor", "--help"],
        &["keys", "--help"],
        &["identities", "--help"],
        &["environments", "redirect-uris", "add", "--help"],
    ] {
        assert!(run(&mut gatewright(arguments)).good().contains("Usage: gatewright"), "{arguments:?}");
    }
    assert!(run(&mut gatewright(["--version"])).good().starts_with("gatewright "));
}
