use std::net::IpAddr;
use std::time::Duration;

use gatewright_base::{Id, Kind, Timestamp};

use crate::features::records::environments::{Radar, Reaction};
use crate::features::records::radar_lists::{ListType, Listed};
use crate::platform::places::Place;

#[derive(Debug)]
pub struct RadarAttemptKind;
impl Kind for RadarAttemptKind {
    const PREFIX: &'static str = "radar_att";
}
pub type RadarAttemptId = Id<RadarAttemptKind>;

/// Failures are counted in windows: long enough for a slow attacker to be seen, short enough for an owner to be forgiven.
pub const FAILURES_WITHIN: Duration = Duration::from_secs(15 * 60);
pub const FLOOD_WITHIN: Duration = Duration::from_secs(5 * 60);
pub const MAILBOX_WITHIN: Duration = Duration::from_secs(30 * 86_400);
pub const NETWORK_SIGN_UPS_WITHIN: Duration = Duration::from_secs(86_400);

/// A user who has never signed in is signing up for this long after the account was made.
pub const SIGN_UP_WITHIN: Duration = Duration::from_secs(86_400);

/// An environment is flooded when failures are so many times the successes.
const FLOOD_RATIO: u32 = 4;

/// Faster than an airliner, and farther than a table of places is wrong.
const FASTEST_KM_PER_HOUR: f64 = 1_000.0;
const NEAREST_KM: f64 = 500.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    SignUp,
    SignIn,
}

impl Action {
    /// As the operations spell it, and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign-up",
            Self::SignIn => "sign-in",
        }
    }

    /// As the event spells it (contract 6.6, row 27).
    pub fn as_event(self) -> &'static str {
        match self {
            Self::SignUp => "signup",
            Self::SignIn => "login",
        }
    }
}

/// What may be found, in the order in which the first one names the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    Restriction,
    BruteForceAttack,
    BotDetection,
    ImpossibleTravel,
    RepeatSignUp,
    UnrecognizedDevice,
    StaleAccount,
}

impl Control {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BotDetection => "bot_detection",
            Self::BruteForceAttack => "brute_force_attack",
            Self::ImpossibleTravel => "impossible_travel",
            Self::RepeatSignUp => "repeat_sign_up",
            Self::StaleAccount => "stale_account",
            Self::UnrecognizedDevice => "unrecognized_device",
            Self::Restriction => "restriction",
        }
    }
}

/// What is done about a sign-in, the weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    #[default]
    Allow,
    Challenge,
    Block,
}

impl Answer {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Challenge => "challenge",
            Self::Block => "block",
        }
    }
}

/// What the one decision about a sign-in learns of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Risk {
    #[default]
    None,
    /// The mailbox on record has to be proved, unless this sign-in proved it.
    Challenge,
    /// As [`Risk::Challenge`]; where SMS can be sent, a phone instead, because whoever signs up again and again has mailboxes enough.
    SignUpChallenge,
    Block,
}

impl Risk {
    /// What is left of it once this sign-in proved the mailbox.
    pub fn once_mailbox_proved(self, by_phone: bool) -> Self {
        match self {
            Self::Challenge => Self::None,
            Self::SignUpChallenge if !by_phone => Self::None,
            other => other,
        }
    }

    /// The stored form of what is still due after the step that a sign-in waits for.
    pub fn as_due(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Block => None,
            Self::Challenge => Some("challenge"),
            Self::SignUpChallenge => Some("sign_up_challenge"),
        }
    }

    pub fn of_due(due: Option<&str>) -> Self {
        match due {
            Some("challenge") => Self::Challenge,
            Some("sign_up_challenge") => Self::SignUpChallenge,
            _ => Self::None,
        }
    }
}

/// What a browser says of itself beside its name. Known at the pages only: over the API nobody but a back end is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub accept_language: bool,
    /// `Sec-Fetch-Mode`, which every browser since 2023 sends and scripts cannot set.
    pub fetch_metadata: bool,
}

/// Where a sign-in comes from. What is not known is not guessed: the controls that need it say nothing.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub device: Option<String>,
    pub headers: Option<Headers>,
    /// Whether a person's browser would have given its name: at the pages, and wherever an app hands on what it saw.
    pub is_direct: bool,
    /// An assessment that the app asked for before (`radar_auth_attempt_id`).
    pub attempt_id: Option<String>,
}

impl Signals {
    /// What a back end says of the person at its other end. Its own address and name are nobody's, and count for nothing.
    pub fn named(ip_address: Option<&str>, user_agent: Option<&str>, device: Option<&str>) -> Self {
        let cut = |text: Option<&str>, max: usize| {
            text.map(|text| text.chars().filter(|c| !c.is_control()).take(max).collect::<String>()).filter(|text| !text.is_empty())
        };
        Self {
            ip: ip_address.and_then(|text| text.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()),
            user_agent: cut(user_agent, 512),
            device: cut(device, 255),
            headers: None,
            is_direct: false,
            attempt_id: None,
        }
    }
}

/// What is known when a sign-in is assessed. Gathered by `facts`; the assessment looks nothing up.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub action: Action,
    pub signals: &'a Signals,
    pub listed: Listed,
    pub disposable: bool,
    pub failures_of_account: u32,
    pub failures_of_network: u32,
    pub accounts_failed_from_network: u32,
    pub failures_of_environment: u32,
    pub successes_of_environment: u32,
    /// Other accounts begun with the same mailbox, and from the same network.
    pub mailbox_sign_ups: u32,
    pub network_sign_ups: u32,
    /// Whether anybody ever signed in to the account.
    pub has_history: bool,
    /// None: nothing is known of the device and the network.
    pub device_known: Option<bool>,
    /// Whether the device is known by itself, so that it is the owner's and not a neighbour's.
    pub own_device: bool,
    pub here: Option<Place>,
    /// Where and when the account was signed in to last.
    pub last: Option<(Place, Timestamp)>,
    /// From the user's own record.
    pub last_sign_in_at: Option<Timestamp>,
}

/// Something that a control found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub control: Control,
    pub reaction: Reaction,
    pub reason: String,
    pub blocklist_type: Option<ListType>,
}

/// What is made of a sign-in, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub answer: Answer,
    /// What the answer is for: none when it is to allow.
    pub control: Option<Control>,
    pub blocklist_type: Option<ListType>,
    /// Also those that are only written down.
    pub findings: Vec<Finding>,
    /// The allow list that made all of them void.
    pub allowed_by: Option<ListType>,
}

impl Verdict {
    pub fn has_found(&self, control: Control) -> bool {
        self.findings.iter().any(|finding| finding.control == control)
    }

    /// One sentence for the app (`reason`).
    pub fn reason(&self) -> String {
        if let Some(list) = self.allowed_by {
            return format!("On the allow list {}", list.as_str());
        }
        match self.control {
            Some(control) => format!("Detected enabled Radar control {}", control.as_str()),
            None if self.findings.is_empty() => "No risk detected".to_owned(),
            None => "Detected Radar controls that are set to log".to_owned(),
        }
    }
}

/// What is made of a sign-in. An allow list wins over everything; else the strictest reaction to what was found.
pub fn assess(config: &Radar, facts: &Facts<'_>, now: Timestamp) -> Verdict {
    let mut findings = Vec::new();
    let mut found = |control, reaction, reason: Option<String>, blocklist_type| {
        if let (true, Some(reason)) = (reaction != Reaction::Off, reason) {
            findings.push(Finding { control, reaction, reason, blocklist_type });
        }
    };
    let listed = facts.listed.blocked.map(|list| format!("on the block list {}", list.as_str()));
    found(Control::Restriction, config.restriction, listed, facts.listed.blocked);
    let disposable = facts.disposable.then(|| "an address of a disposable domain".to_owned());
    found(Control::Restriction, config.disposable_domains, disposable, Some(ListType::Domain));
    found(Control::BruteForceAttack, config.brute_force_attack, brute_force(config, facts), None);
    found(Control::BotDetection, config.bot_detection, automated(facts.signals), None);
    match facts.action {
        Action::SignUp => found(Control::RepeatSignUp, config.repeat_sign_up, repeated(config, facts), None),
        Action::SignIn => {
            found(Control::ImpossibleTravel, config.impossible_travel, travelled(facts, now), None);
            found(Control::UnrecognizedDevice, config.unrecognized_device, unrecognized(facts), None);
            found(Control::StaleAccount, config.stale_account, stale(config, facts, now), None);
        }
    }
    if let Some(list) = facts.listed.allowed {
        return Verdict { findings, allowed_by: Some(list), ..Verdict::default() };
    }
    let answer_to = |finding: &Finding| match finding.reaction {
        Reaction::Off | Reaction::Log => Answer::Allow,
        Reaction::Challenge => Answer::Challenge,
        Reaction::Block => Answer::Block,
    };
    let answer = findings.iter().map(answer_to).max().unwrap_or_default();
    let named = findings.iter().find(|finding| answer != Answer::Allow && answer_to(finding) == answer);
    let (control, blocklist_type) = (named.map(|finding| finding.control), named.and_then(|finding| finding.blocklist_type));
    Verdict { answer, control, blocklist_type, findings, allowed_by: None }
}

/// The risk that the decision learns of.
pub fn risk_of(answer: Answer, action: Action) -> Risk {
    match (answer, action) {
        (Answer::Allow, _) => Risk::None,
        (Answer::Challenge, Action::SignIn) => Risk::Challenge,
        (Answer::Challenge, Action::SignUp) => Risk::SignUpChallenge,
        (Answer::Block, _) => Risk::Block,
    }
}

/// Somebody who is known here is not held up by what strangers try on their account, and the owner's own device not by what others in
/// its network try either, or nobody could keep an attacker from locking the owner out (attack row 42).
fn brute_force(config: &Radar, facts: &Facts<'_>) -> Option<String> {
    let known = facts.device_known == Some(true);
    let minutes = FAILURES_WITHIN.as_secs() / 60;
    if !known && facts.failures_of_account >= config.account_failures {
        return Some(format!("{} failures for the account in {minutes} minutes", facts.failures_of_account));
    }
    if !facts.own_device && facts.accounts_failed_from_network >= config.network_accounts {
        return Some(format!("failures for {} accounts from the network in {minutes} minutes", facts.accounts_failed_from_network));
    }
    if !facts.own_device && facts.failures_of_network >= config.network_failures {
        return Some(format!("{} failures from the network in {minutes} minutes", facts.failures_of_network));
    }
    let flooded = facts.failures_of_environment >= config.environment_failures
        && facts.failures_of_environment >= facts.successes_of_environment.saturating_mul(FLOOD_RATIO);
    if !known && flooded {
        let minutes = FLOOD_WITHIN.as_secs() / 60;
        return Some(format!("{} failures in the environment in {minutes} minutes", facts.failures_of_environment));
    }
    None
}

/// Programs that say so, and those that say they are a browser and do not behave like one.
fn automated(signals: &Signals) -> Option<String> {
    const PROGRAMS: [&str; 28] = [
        "aiohttp",
        "apache-httpclient",
        "axios/",
        "curl/",
        "go-http-client",
        "guzzlehttp",
        "headlesschrome",
        "httpie/",
        "insomnia/",
        "java/",
        "java-http-client",
        "libwww-perl",
        "mechanize",
        "node-fetch",
        "phantomjs",
        "playwright",
        "postmanruntime",
        "puppeteer",
        "python-httpx",
        "python-requests",
        "python-urllib",
        "reqwest/",
        "rest-client/",
        "ruby",
        "scrapy",
        "selenium",
        "undici",
        "wget/",
    ];
    let Some(user_agent) = &signals.user_agent else {
        return signals.is_direct.then(|| "no user agent".to_owned());
    };
    let lower = user_agent.to_lowercase();
    if let Some(program) = PROGRAMS.iter().find(|program| lower.contains(*program)) {
        return Some(format!("the user agent is a program's: {}", program.trim_end_matches('/')));
    }
    let headers = signals.headers?;
    if !headers.accept_language {
        return Some("a browser that names no language".to_owned());
    }
    // Old browsers send none, and neither do those inside of apps: only who claims to be a recent Chromium is held to it.
    if !headers.fetch_metadata && chromium_version(&lower).is_some_and(|version| version >= 100) {
        return Some("a recent browser without fetch metadata".to_owned());
    }
    None
}

fn chromium_version(lower: &str) -> Option<u32> {
    let (_, rest) = lower.split_once("chrome/").filter(|_| !lower.contains("; wv)"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn repeated(config: &Radar, facts: &Facts<'_>) -> Option<String> {
    if facts.mailbox_sign_ups >= config.mailbox_sign_ups {
        return Some(format!("{} other accounts begun with the mailbox in 30 days", facts.mailbox_sign_ups));
    }
    (facts.network_sign_ups >= config.network_sign_ups)
        .then(|| format!("{} other accounts begun from the network in a day", facts.network_sign_ups))
}

fn travelled(facts: &Facts<'_>, now: Timestamp) -> Option<String> {
    let (here, (there, then)) = (facts.here?, facts.last?);
    let kilometres = here.kilometres_to(&there)?;
    let hours = now.since(then).as_secs_f64() / 3_600.0;
    (kilometres > NEAREST_KM && kilometres > FASTEST_KM_PER_HOUR * hours)
        .then(|| format!("{kilometres:.0} km from the last sign-in, {:.0} minutes ago", hours * 60.0))
}

/// The first sign-in of all is from a new device by its nature.
fn unrecognized(facts: &Facts<'_>) -> Option<String> {
    (facts.has_history && facts.device_known == Some(false)).then(|| "a device never seen for the account".to_owned())
}

fn stale(config: &Radar, facts: &Facts<'_>, now: Timestamp) -> Option<String> {
    let idle = now.since(facts.last_sign_in_at?);
    let days = idle.as_secs() / 86_400;
    (days >= u64::from(config.stale_days)).then(|| format!("nobody signed in for {days} days"))
}

#[cfg(test)]
mod assessment_tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_768_478_400_000);
    const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36";

    fn blocking() -> Radar {
        let block = Reaction::Block;
        Radar {
            bot_detection: block,
            brute_force_attack: block,
            impossible_travel: block,
            repeat_sign_up: block,
            stale_account: block,
            unrecognized_device: block,
            restriction: block,
            disposable_domains: block,
            ..Radar::default()
        }
    }

    fn browser() -> Signals {
        Signals {
            user_agent: Some(CHROME.to_owned()),
            headers: Some(Headers { accept_language: true, fetch_metadata: true }),
            is_direct: true,
            ..Signals::default()
        }
    }

    fn facts(signals: &Signals) -> Facts<'_> {
        Facts {
            action: Action::SignIn,
            signals,
            listed: Listed::default(),
            disposable: false,
            failures_of_account: 0,
            failures_of_network: 0,
            accounts_failed_from_network: 0,
            failures_of_environment: 0,
            successes_of_environment: 0,
            mailbox_sign_ups: 0,
            network_sign_ups: 0,
            has_history: true,
            device_known: Some(true),
            own_device: false,
            here: None,
            last: None,
            last_sign_in_at: None,
        }
    }

    fn control(facts: &Facts<'_>) -> Option<Control> {
        let verdict = assess(&blocking(), facts, NOW);
        assert_eq!(verdict.answer == Answer::Block, verdict.control.is_some());
        verdict.control
    }

    fn place(latitude: f32, longitude: f32) -> Option<Place> {
        Some(Place { country: None, coordinates: Some((latitude, longitude)) })
    }

    #[test]
    fn the_whole_table() {
        let signals = browser();
        let calm = || facts(&signals);
        let ago = |seconds| NOW.minus(Duration::from_secs(seconds));
        let (berlin, sydney, potsdam) = (place(52.5, 13.4), place(-33.9, 151.2), place(52.4, 13.1));
        let at = |place: Option<Place>, seconds| place.map(|place| (place, ago(seconds)));
        let table = [
            (calm(), None),
            (Facts { failures_of_account: 9, device_known: Some(false), has_history: false, ..calm() }, None),
            (Facts { failures_of_account: 10, device_known: None, ..calm() }, Some(Control::BruteForceAttack)),
            (Facts { failures_of_account: 999, ..calm() }, None),
            (Facts { failures_of_network: 50, ..calm() }, Some(Control::BruteForceAttack)),
            (Facts { accounts_failed_from_network: 20, ..calm() }, Some(Control::BruteForceAttack)),
            (Facts { failures_of_network: 50, accounts_failed_from_network: 20, own_device: true, ..calm() }, None),
            (Facts { failures_of_environment: 1_000, ..calm() }, None),
            (Facts { failures_of_environment: 500, device_known: None, ..calm() }, Some(Control::BruteForceAttack)),
            (Facts { failures_of_environment: 500, successes_of_environment: 200, device_known: None, ..calm() }, None),
            (Facts { device_known: Some(false), ..calm() }, Some(Control::UnrecognizedDevice)),
            (Facts { device_known: Some(false), has_history: false, ..calm() }, None),
            (Facts { device_known: None, ..calm() }, None),
            (Facts { last_sign_in_at: Some(ago(90 * 86_400)), ..calm() }, Some(Control::StaleAccount)),
            (Facts { last_sign_in_at: Some(ago(90 * 86_400 - 1)), ..calm() }, None),
            (Facts { here: berlin, last: at(sydney, 3_600), ..calm() }, Some(Control::ImpossibleTravel)),
            (Facts { here: berlin, last: at(sydney, 24 * 3_600), ..calm() }, None),
            (Facts { here: berlin, last: at(potsdam, 1), ..calm() }, None),
            (Facts { here: berlin, last: at(Some(Place::default()), 1), ..calm() }, None),
            (Facts { here: None, last: at(sydney, 1), ..calm() }, None),
            (Facts { disposable: true, ..calm() }, Some(Control::Restriction)),
            (Facts { listed: Listed { blocked: Some(ListType::Email), allowed: None }, ..calm() }, Some(Control::Restriction)),
            (Facts { mailbox_sign_ups: 99, network_sign_ups: 99, ..calm() }, None),
            (Facts { action: Action::SignUp, mailbox_sign_ups: 2, ..calm() }, Some(Control::RepeatSignUp)),
            (Facts { action: Action::SignUp, network_sign_ups: 20, ..calm() }, Some(Control::RepeatSignUp)),
            (Facts { action: Action::SignUp, mailbox_sign_ups: 1, network_sign_ups: 19, device_known: Some(false), ..calm() }, None),
        ];
        for (facts, expected) in table {
            assert_eq!(control(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn automated_clients_are_told_by_what_they_say_and_what_they_leave_out() {
        let direct = |user_agent: Option<&str>, accept_language, fetch_metadata| Signals {
            user_agent: user_agent.map(str::to_owned),
            headers: Some(Headers { accept_language, fetch_metadata }),
            ..browser()
        };
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:78.0) Gecko/20100101 Firefox/78.0";
        let webview = "Mozilla/5.0 (Linux; Android 15; Pixel; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36";
        for signals in [
            direct(None, true, true),
            direct(Some("curl/8.5.0"), true, true),
            direct(Some("python-requests/2.32"), true, true),
            direct(Some("Mozilla/5.0 HeadlessChrome/138.0.0.0"), true, true),
            direct(Some(CHROME), false, true),
            direct(Some(CHROME), true, false),
            Signals::named(None, Some("Go-http-client/2.0"), None),
        ] {
            assert_eq!(control(&facts(&signals)), Some(Control::BotDetection), "{signals:?}");
        }
        for signals in [
            direct(Some(CHROME), true, true),
            direct(Some(firefox), true, false),
            direct(Some(webview), true, false),
            // A back end that says nothing of the person is not the person.
            Signals::named(None, None, None),
            Signals::named(Some("192.0.2.1"), Some(CHROME), None),
        ] {
            assert_eq!(control(&facts(&signals)), None, "{signals:?}");
        }
    }

    #[test]
    fn by_default_only_a_block_list_disturbs_anybody() {
        let signals = Signals::named(Some("192.0.2.1"), Some("curl/8"), None);
        let worst = Facts {
            failures_of_account: 1_000,
            failures_of_network: 1_000,
            accounts_failed_from_network: 1_000,
            disposable: true,
            device_known: Some(false),
            last_sign_in_at: Some(Timestamp::from_millis(0)),
            ..facts(&signals)
        };
        let verdict = assess(&Radar::default(), &worst, NOW);
        assert_eq!((verdict.answer, verdict.control, verdict.findings.len()), (Answer::Allow, None, 5));
        let listed = Listed { blocked: Some(ListType::IpAddress), allowed: None };
        let verdict = assess(&Radar::default(), &Facts { listed, ..worst.clone() }, NOW);
        assert_eq!(
            (verdict.answer, verdict.control, verdict.blocklist_type),
            (Answer::Block, Some(Control::Restriction), Some(ListType::IpAddress))
        );
        let off = Radar { restriction: Reaction::Off, ..Radar::default() };
        assert!(
            assess(&off, &Facts { listed, ..worst }, NOW)
                .findings
                .iter()
                .all(|finding| finding.blocklist_type != Some(ListType::IpAddress))
        );
    }

    #[test]
    fn an_allow_list_wins_and_the_strictest_reaction_names_the_control() {
        let signals = Signals::named(None, Some("curl/8"), None);
        let listed = Listed { allowed: Some(ListType::Email), blocked: Some(ListType::IpAddress) };
        let both = Facts { listed, failures_of_account: 10, device_known: None, ..facts(&signals) };
        let allowed = assess(&blocking(), &both, NOW);
        assert_eq!((allowed.answer, allowed.allowed_by), (Answer::Allow, Some(ListType::Email)));
        assert!(allowed.has_found(Control::Restriction), "what it was forgiven is still written down");
        let mixed = Radar { brute_force_attack: Reaction::Challenge, bot_detection: Reaction::Block, ..Radar::default() };
        let verdict = assess(&mixed, &Facts { listed: Listed::default(), ..both }, NOW);
        assert_eq!((verdict.answer, verdict.control), (Answer::Block, Some(Control::BotDetection)));
    }

    #[test]
    fn what_a_back_end_says_is_cut_and_cleaned() {
        let named = Signals::named(Some(" ::ffff:192.0.2.1 "), Some(&"x\n".repeat(2_000)), Some(&"d".repeat(2_000)));
        assert_eq!(named.ip, "192.0.2.1".parse().ok());
        assert_eq!((named.user_agent.map(|text| text.len()), named.device.map(|text| text.len())), (Some(512), Some(255)));
        assert_eq!(Signals::named(Some("not an address"), None, Some("")).ip, None);
    }
}
