//! The configuration: one documented struct a section. Unknown keys are refused, so a misspelt key is never a silent default.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gatewright_base::Secret;
use gatewright_webauthn::UserVerification;
use serde::Deserialize;

/// Everything `gatewright serve` reads from its file; each key is also an environment variable, see the guide.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The origin people and apps reach the server at: scheme, host and port, no path. Every link is made from it.
    pub public_url: String,
    /// Address the server listens on.
    pub listen: SocketAddr,
    /// Address of the Prometheus metrics; off when absent. Never the public one.
    pub metrics_listen: Option<SocketAddr>,
    /// 64 hex digits or base64 of 32 bytes; seals what must be read back. Not in the database.
    pub master_key: Option<Secret<String>>,
    /// A file that holds the master key instead.
    pub master_key_file: Option<std::path::PathBuf>,
    /// Proxies (addresses or CIDR blocks) whose `X-Forwarded-For` is believed for rate limits and session records.
    pub trusted_proxies: Vec<String>,
    /// Parent domain of the readable `workos-has-session` cookie for browser clients, such as `example.com`.
    pub cookie_domain: Option<String>,
    pub database: Database,
    pub brand: Brand,
    pub mail: Mail,
    pub sms: Sms,
    pub passwords: Passwords,
    pub limits: Limits,
    pub outbound: Outbound,
    pub webhooks: Webhooks,
    pub events: Events,
    pub webauthn: Webauthn,
    pub radar: Radar,
    pub challenge: Challenge,
    /// Answers that could tell by their time who has an account leave at full steps of this: longer than what is done in it, also with
    /// a password to hash, and shorter than a person notices.
    #[serde(skip)]
    pub answer_step: Duration,
    /// Set by `gatewright dev` only: loopback redirects, the inbox, keys that `serve` refuses.
    #[serde(skip)]
    pub dev: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://user:password@host/database`.
    pub url: String,
    /// Connections to PostgreSQL; SQLite ignores it.
    pub connections: usize,
}

/// The operator's brand on hosted pages and mails.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brand {
    /// The product's name, as in "Sign in to Expenses".
    pub name: String,
    /// `#RRGGBB`; legibility is kept whatever it is.
    pub color: Option<String>,
    /// A second colour for dark mode.
    pub color_dark: Option<String>,
    /// Corner radius of controls, 0 to 16 pixels.
    pub radius: u8,
    /// `https` URL of a logo.
    pub logo_url: Option<String>,
    pub privacy_url: Option<String>,
    pub terms_url: Option<String>,
    pub support_url: Option<String>,
    pub keystone: bool,
    pub doorway: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// `Name <address>` of the sender.
    pub from: String,
    /// `smtps://user:password@host:465` or `smtp://host:587?tls=required`. Required by `serve`.
    pub smtp_url: Option<Secret<String>>,
}

/// Who sends text messages. Without a sender there are no factors of phone numbers, except in `dev`, where the inbox shows them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sms {
    /// An endpoint that sends what is posted to it: `{id, environment_id, to, text, created_at}`.
    pub webhook_url: Option<String>,
    /// Signs each request as webhooks are signed; at least 16 characters.
    pub webhook_secret: Option<Secret<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passwords {
    /// Fewest characters of a new password, 8 to 64, whatever else is asked for; 15, or 8 where a second factor is required, when absent.
    pub min_length: Option<usize>,
    /// A list of passwords from breaches: one SHA-1 digest and count a line, sorted by digest, as Have I Been Pwned publishes it.
    pub breached_file: Option<std::path::PathBuf>,
    /// A service that answers which passwords from breaches begin alike, such as `https://api.pwnedpasswords.com/range`. It is told the
    /// first five hex digits of the SHA-1 digest.
    pub breached_url: Option<String>,
    /// argon2id memory in KiB, passes and lanes.
    pub argon2_memory_kib: u32,
    pub argon2_passes: u32,
    pub argon2_lanes: u32,
    /// Hashes computed at once; 0 means one for each core.
    pub hashing_threads: usize,
    /// Sign-ins that may wait for a hash before the next is told to come back (429).
    pub hashing_queue: usize,
}

/// Published limits of the upstream service; see the guide for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub enabled: bool,
    /// Tries of authenticate in 60 s for one e-mail address or pending sign-in.
    pub authenticate_per_email: u32,
    /// Tries of a password in an hour for one address, from all places; a device that its owner signed in from is not counted with them.
    pub hosted_per_email: u32,
    /// Tries in 60 s at the hosted pages from one address (IPv6: /64).
    pub hosted_per_ip: u32,
    /// Mails of one kind in 60 s to one address.
    pub mails_per_email: u32,
    /// Mails of one kind in 24 h to one address.
    pub mails_per_email_daily: u32,
    /// Text messages in 60 s to one number.
    pub messages_per_number: u32,
    /// Text messages in 24 h to one number.
    pub messages_per_number_daily: u32,
    /// Authorize requests in 60 s from one address.
    pub authorize_per_ip: u32,
    /// Accounts begun in an hour in one environment, and from one address (IPv6: /64) of it, before browsers are checked.
    pub sign_ups_per_hour: u32,
    pub sign_ups_per_ip: u32,
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// Connections open at once.
    pub connections: usize,
}

/// Requests to servers that somebody else named: webhooks, log streams, pushed security events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// Private addresses or CIDR blocks that may be asked, also over plain `http`. `dev` may always ask this machine.
    pub allow_private: Vec<String>,
    /// Requests under way at once.
    pub connections: usize,
}

/// Passkeys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webauthn {
    /// The domain that passkeys belong to: the host of `public_url`, or a domain above it that somebody can register. Changing it
    /// makes every passkey useless.
    pub rp_id: Option<String>,
    /// Origins beside that of `public_url` whose pages may ask for passkeys: `https` ones below the domain, and
    /// `android:apk-key-hash:` of an app.
    pub origins: Vec<String>,
    /// Whether a passkey counts only when the device verified its owner by PIN or biometrics.
    pub require_user_verification: bool,
}

impl Webauthn {
    pub fn user_verification(&self) -> UserVerification {
        if self.require_user_verification { UserVerification::Required } else { UserVerification::Preferred }
    }
}

/// What a browser is asked for when more come than the limits allow, instead of being sent away.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Challenge {
    pub provider: ChallengeProvider,
    /// The public key of the site, for `turnstile` and `hcaptcha`.
    pub site_key: Option<String>,
    /// The secret of the site, for `turnstile` and `hcaptcha`.
    pub secret: Option<Secret<String>>,
    /// Bits of a proof of work, 8 to 24, when few ask, and when many do.
    pub difficulty: u8,
    pub max_difficulty: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeProvider {
    /// A calculation in the browser; nobody else is asked.
    #[default]
    ProofOfWork,
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    Hcaptcha,
    /// Whoever is over a limit waits.
    Off,
}

/// How long events can be read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Days that `GET /events` shows an event, 7 to 3650.
    pub kept_days: u32,
    /// Days that entries of the platform's own audit log are kept, 7 to 3650.
    pub audit_kept_days: u32,
}

/// How events are sent to webhook endpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// The wait after each try that failed, such as `90s`, `10m`, `6h` or `2d`; after the last one comes one more try.
    pub retries: Vec<String>,
    /// Longest wait for an endpoint's whole answer.
    pub timeout_seconds: u64,
    /// Tries under way at once to one endpoint that answers well.
    pub per_endpoint: u32,
    /// Tries under way at once on this node.
    pub at_once: usize,
    /// How long the log keeps deliveries that have ended.
    pub log_days: u64,
}

impl Webhooks {
    /// The waits as [`Config::check`] found them to be; what is none was refused there.
    pub fn waits(&self) -> Vec<Duration> {
        self.retries.iter().filter_map(|text| parse_span(text)).collect()
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    pub fn log_kept(&self) -> Duration {
        Duration::from_secs(self.log_days.saturating_mul(86_400))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 4700)),
            metrics_listen: None,
            master_key: None,
            master_key_file: None,
            trusted_proxies: Vec::new(),
            cookie_domain: None,
            database: Database::default(),
            brand: Brand::default(),
            mail: Mail::default(),
            sms: Sms::default(),
            passwords: Passwords::default(),
            limits: Limits::default(),
            events: Events::default(),
            outbound: Outbound::default(),
            webhooks: Webhooks::default(),
            webauthn: Webauthn::default(),
            radar: Radar::default(),
            challenge: Challenge::default(),
            answer_step: Duration::from_millis(100),
            dev: false,
        }
    }
}

/// What Radar knows of the world. What it does is a setting of each environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Radar {
    /// A CSV table of networks with their countries and coordinates; see the guide. Without one, travel and countries say nothing.
    pub places_file: Option<std::path::PathBuf>,
    /// Domains that give addresses to throw away, one a line.
    pub disposable_domains_file: Option<std::path::PathBuf>,
    /// Days that tries to sign in are kept by: for so long a device is recognized.
    pub attempts_kept_days: u32,
}

impl Default for Radar {
    fn default() -> Self {
        Self { places_file: None, disposable_domains_file: None, attempts_kept_days: 90 }
    }
}

impl Radar {
    pub fn attempts_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.attempts_kept_days) * 86_400)
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: "sqlite:gatewright.db".to_owned(), connections: 8 }
    }
}

impl Default for Challenge {
    fn default() -> Self {
        // 2^16 hashes are a tenth of a second in a browser, 2^22 some seconds.
        Self { provider: ChallengeProvider::ProofOfWork, site_key: None, secret: None, difficulty: 16, max_difficulty: 22 }
    }
}

impl Default for Brand {
    fn default() -> Self {
        Self {
            name: "Gatewright".to_owned(),
            color: None,
            color_dark: None,
            radius: 10,
            logo_url: None,
            privacy_url: None,
            terms_url: None,
            support_url: None,
            keystone: true,
            doorway: true,
        }
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self { from: "Gatewright <no-reply@localhost>".to_owned(), smtp_url: None }
    }
}

impl Default for Passwords {
    fn default() -> Self {
        // OWASP's argon2id minimum: 19 MiB, two passes, one lane.
        Self {
            min_length: None,
            breached_file: None,
            breached_url: None,
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            argon2_lanes: 1,
            hashing_threads: 0,
            hashing_queue: 64,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        // 90 as upstream (contract 8, row 13).
        Self { kept_days: 90, audit_kept_days: 365 }
    }
}

impl Events {
    pub fn kept(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::from(self.kept_days) * 86_400)
    }

    pub fn audit_kept(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::from(self.audit_kept_days) * 86_400)
    }
}

impl Passwords {
    /// NIST SP 800-63B-4 §3.1.1.2, unless the operator says otherwise.
    pub fn min_length(&self, second_factor_required: bool) -> usize {
        self.min_length.unwrap_or(if second_factor_required { 8 } else { 15 })
    }

    /// A quarter of the queue once more: strangers who fill it do not keep those out who are known.
    pub fn places_of_known_devices(&self) -> usize {
        self.hashing_queue.min(1 << 20) / 4
    }

    pub fn hashing_threads(&self) -> usize {
        match self.hashing_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            authenticate_per_email: 10,
            hosted_per_email: 100,
            hosted_per_ip: 60,
            mails_per_email: 3,
            mails_per_email_daily: 50,
            messages_per_number: 2,
            messages_per_number_daily: 20,
            authorize_per_ip: 1_000,
            sign_ups_per_hour: 1_000,
            sign_ups_per_ip: 20,
            body_bytes: 1 << 20,
            connections: 10_000,
        }
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self { allow_private: Vec::new(), connections: 256 }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        let retries = ["1m", "10m", "1h", "6h", "24h", "41h"].map(str::to_owned).to_vec();
        Self { retries, timeout_seconds: 10, per_endpoint: 8, at_once: 128, log_days: 30 }
    }
}

/// A configuration that cannot be served: which key, what is wrong, what to do. One line.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}; {remedy}")]
pub struct ConfigError {
    pub key: &'static str,
    pub problem: String,
    pub remedy: String,
}

impl ConfigError {
    pub fn new(key: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), remedy: remedy.into() }
    }
}

impl Config {
    /// Refuses what could only fail later, in front of a user.
    pub fn check(&self) -> Result<(), ConfigError> {
        let origin = "give scheme, host and port only, such as https://auth.example.com";
        if self.public_url.is_empty() {
            return Err(ConfigError::new("public_url", "is not set", origin));
        }
        let (scheme, host) = self
            .public_url
            .split_once("://")
            .ok_or_else(|| ConfigError::new("public_url", format!("{:?} is not an origin", self.public_url), origin))?;
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) || !matches!(scheme, "http" | "https") {
            return Err(ConfigError::new("public_url", format!("{:?} is not a bare origin", self.public_url), origin));
        }
        if scheme == "http" && !is_loopback_host(host) {
            return Err(ConfigError::new(
                "public_url",
                "http is only for loopback",
                "use https; a proxy may end TLS in front of the server",
            ));
        }
        if let Some(length) = self.passwords.min_length
            && !(8..=64).contains(&length)
        {
            return Err(ConfigError::new("passwords.min_length", length.to_string(), "choose 8 to 64"));
        }
        self.check_challenge()?;
        if self.passwords.argon2_memory_kib < 8 * self.passwords.argon2_lanes.max(1)
            || self.passwords.argon2_passes == 0
            || self.passwords.argon2_lanes == 0
        {
            return Err(ConfigError::new(
                "passwords.argon2_memory_kib",
                "too small for argon2",
                "keep the default of 19456 KiB, 2 passes, 1 lane",
            ));
        }
        // A webhook is tried for three days, and a reader of events may be away over a weekend.
        for (key, days) in [("events.kept_days", self.events.kept_days), ("events.audit_kept_days", self.events.audit_kept_days)] {
            if !(7..=3_650).contains(&days) {
                return Err(ConfigError::new(key, days.to_string(), "choose 7 to 3650 days"));
            }
        }
        if !(31..=3_650).contains(&self.radar.attempts_kept_days) {
            return Err(ConfigError::new(
                "radar.attempts_kept_days",
                self.radar.attempts_kept_days.to_string(),
                "choose 31 to 3650 days: sign-ups are counted over 30",
            ));
        }
        if self.brand.radius > 16 {
            return Err(ConfigError::new("brand.radius", self.brand.radius.to_string(), "choose 0 to 16"));
        }
        for (key, color) in [("brand.color", &self.brand.color), ("brand.color_dark", &self.brand.color_dark)] {
            if let Some(color) = color
                && !(color.len() == 7 && color.starts_with('#') && color[1..].bytes().all(|b| b.is_ascii_hexdigit()))
            {
                return Err(ConfigError::new(key, format!("{color:?} is not a colour"), "write it as #RRGGBB"));
            }
        }
        for (key, url) in [
            ("brand.logo_url", &self.brand.logo_url),
            ("brand.privacy_url", &self.brand.privacy_url),
            ("brand.terms_url", &self.brand.terms_url),
            ("brand.support_url", &self.brand.support_url),
        ] {
            if let Some(url) = url
                && !(url.starts_with("https://")
                    || (key == "brand.support_url" && url.starts_with("mailto:"))
                    || (self.dev && url.starts_with("http://")))
            {
                return Err(ConfigError::new(key, format!("{url:?} is not an https URL"), "give an https:// URL"));
            }
        }
        for proxy in &self.trusted_proxies {
            if parse_block(proxy).is_none() {
                return Err(ConfigError::new(
                    "trusted_proxies",
                    format!("{proxy:?} is neither an address nor a CIDR block"),
                    "write 10.0.0.0/8 or 192.0.2.7",
                ));
            }
        }
        for block in &self.outbound.allow_private {
            if parse_block(block).is_none() {
                return Err(ConfigError::new(
                    "outbound.allow_private",
                    format!("{block:?} is neither an address nor a CIDR block"),
                    "write 10.0.0.0/8 or 192.168.1.7",
                ));
            }
        }
        self.check_webhooks()?;
        self.check_sms()?;
        self.check_webauthn()?;
        if !self.dev && self.mail.smtp_url.is_none() {
            return Err(ConfigError::new("mail.smtp_url", "is not set", "sign-in codes go by mail: give smtps://user:password@host:465"));
        }
        Ok(())
    }

    fn check_sms(&self) -> Result<(), ConfigError> {
        let Sms { webhook_url, webhook_secret } = &self.sms;
        if webhook_url.as_ref().is_some_and(|url| !(url.starts_with("https://") || url.starts_with("http://"))) {
            return Err(ConfigError::new("sms.webhook_url", "is not an http(s) URL", "give the URL of the endpoint that sends messages"));
        }
        if webhook_url.is_some() != webhook_secret.is_some() {
            return Err(ConfigError::new("sms.webhook_secret", "goes with sms.webhook_url", "give both or neither"));
        }
        if webhook_secret.as_ref().is_some_and(|secret| secret.reveal().len() < 16) {
            return Err(ConfigError::new("sms.webhook_secret", "is too short", "give at least 16 random characters"));
        }
        Ok(())
    }

    fn check_challenge(&self) -> Result<(), ConfigError> {
        let challenge = &self.challenge;
        for (key, bits) in [("challenge.difficulty", challenge.difficulty), ("challenge.max_difficulty", challenge.max_difficulty)] {
            if !(8..=24).contains(&bits) {
                return Err(ConfigError::new(key, bits.to_string(), "choose 8 to 24 bits"));
            }
        }
        if challenge.difficulty > challenge.max_difficulty {
            let problem = format!("{} is more than challenge.max_difficulty", challenge.difficulty);
            return Err(ConfigError::new("challenge.difficulty", problem, "raise challenge.max_difficulty"));
        }
        if matches!(challenge.provider, ChallengeProvider::Turnstile | ChallengeProvider::Hcaptcha) {
            let remedy = "give the key that the provider shows for your site, or take the provider proof_of_work";
            let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            if !challenge.site_key.as_deref().is_some_and(printable) {
                return Err(ConfigError::new("challenge.site_key", "is not set", remedy));
            }
            if !challenge.secret.as_ref().is_some_and(|secret| printable(secret.reveal())) {
                return Err(ConfigError::new("challenge.secret", "is not set", remedy));
            }
        }
        Ok(())
    }

    fn check_webhooks(&self) -> Result<(), ConfigError> {
        let webhooks = &self.webhooks;
        let whole_week = Duration::from_secs(7 * 86_400);
        if webhooks.retries.len() > 20 {
            return Err(ConfigError::new("webhooks.retries", format!("{} waits", webhooks.retries.len()), "give 20 at most"));
        }
        for text in &webhooks.retries {
            if parse_span(text).is_none_or(|span| span > whole_week) {
                return Err(ConfigError::new("webhooks.retries", format!("{text:?} is no wait"), "write 90s, 10m, 6h or 2d, 7d at most"));
            }
        }
        for (key, value, range) in [
            ("webhooks.timeout_seconds", webhooks.timeout_seconds, 1..=60),
            ("webhooks.per_endpoint", u64::from(webhooks.per_endpoint), 1..=100),
            ("webhooks.at_once", webhooks.at_once as u64, 2..=1_000),
            ("webhooks.log_days", webhooks.log_days, 1..=90),
        ] {
            if !range.contains(&value) {
                let remedy = format!("choose {} to {}", range.start(), range.end());
                return Err(ConfigError::new(key, value.to_string(), remedy));
            }
        }
        // The body of a try is made from the event, so an event must outlive the last one.
        if webhooks.waits().iter().sum::<Duration>() >= self.events.kept() {
            return Err(ConfigError::new(
                "webhooks.retries",
                format!("they take as long as events are kept ({} days), or longer", self.events.kept_days),
                "give fewer or shorter waits, or raise events.kept_days",
            ));
        }
        Ok(())
    }

    /// §5.1.3 of WebAuthn has browsers refuse the same, each time and in front of a user.
    fn check_webauthn(&self) -> Result<(), ConfigError> {
        if let Some(rp_id) = &self.webauthn.rp_id {
            let remedy = "give the host of public_url or a domain above it, such as example.com for https://auth.example.com";
            let refused = |problem: String| ConfigError::new("webauthn.rp_id", problem, remedy);
            if !is_within(self.host(), rp_id) {
                return Err(refused(format!("{rp_id:?} is not above {:?}", self.host())));
            }
            if self.host() != rp_id && psl::suffix_str(rp_id).is_none_or(|suffix| suffix == rp_id) {
                return Err(refused(format!("{rp_id:?} is nobody's own domain")));
            }
        }
        for origin in &self.webauthn.origins {
            let remedy = "write https://app.example.com, below the domain of the passkeys, or android:apk-key-hash:..";
            let host = origin.strip_prefix("https://").filter(|host| !host.contains(['/', '?', '#', '@', ' ']));
            let is_below = host.zip(self.rp_id()).is_some_and(|(host, rp_id)| is_within(name_of_host(host), rp_id));
            if !is_below && !origin.starts_with("android:apk-key-hash:") {
                return Err(ConfigError::new("webauthn.origins", format!("{origin:?} cannot use the passkeys"), remedy));
            }
        }
        Ok(())
    }

    /// The domain that passkeys belong to; none where `public_url` has an address instead of a name, which browsers do not take.
    pub fn rp_id(&self) -> Option<&str> {
        match &self.webauthn.rp_id {
            Some(rp_id) => Some(rp_id),
            None => Some(self.host()).filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err()),
        }
    }

    /// Whose pages may ask for passkeys.
    pub fn webauthn_origins(&self) -> Vec<String> {
        std::iter::once(&self.public_url).chain(&self.webauthn.origins).cloned().collect()
    }

    /// The host of `public_url`, without its port.
    fn host(&self) -> &str {
        name_of_host(self.public_url.split_once("://").map_or("", |(_, host)| host))
    }

    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// Whether `peer` is a proxy whose `X-Forwarded-For` is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().filter_map(|p| parse_block(p)).any(|(net, bits)| in_block(peer, net, bits))
    }
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with or without a port.
pub fn is_loopback_host(host: &str) -> bool {
    let name = name_of_host(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host without its port, and an IPv6 address without its brackets.
fn name_of_host(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether `host` is `domain` or below it.
fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|above| !domain.is_empty() && above.ends_with('.'))
}

/// `90s`, `10m`, `6h`, `2d`.
fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok())??;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

pub(super) fn parse_block(text: &str) -> Option<(IpAddr, u32)> {
    let (net, bits) = match text.split_once('/') {
        Some((net, bits)) => (net.parse::<IpAddr>().ok()?, bits.parse().ok()?),
        None => {
            let ip = text.parse::<IpAddr>().ok()?;
            (ip, if ip.is_ipv4() { 32 } else { 128 })
        }
    };
    (bits <= if net.is_ipv4() { 32 } else { 128 }).then_some((net, bits))
}

pub(super) fn in_block(ip: IpAddr, net: IpAddr, bits: u32) -> bool {
    match (ip.to_canonical(), net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => bits == 0 || (u32::from(ip) ^ u32::from(net)) >> (32 - bits) == 0,
        (IpAddr::V6(ip), IpAddr::V6(net)) => bits == 0 || (u128::from(ip) ^ u128::from(net)) >> (128 - bits) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(public_url: &str) -> Config {
        Config { public_url: public_url.to_owned(), dev: true, ..Config::default() }
    }

    #[test]
    fn w01_only_a_bare_origin_is_served() {
        for good in ["http://localhost:4700", "http://127.0.0.1:4700", "http://[::1]:4700", "https://auth.example.com"] {
            dev(good).check().unwrap();
        }
        for bad in [
            "",
            "auth.example.com",
            "https://",
            "https://a.example/auth",
            "https://a.example/",
            "https://u@a.example",
            "http://a.example",
            "ftp://a.example",
            "http://localhost.evil.example",
        ] {
            let error = dev(bad).check().unwrap_err().to_string();
            assert!(error.starts_with("public_url: ") && !error.contains('\n'), "{bad}: {error}");
        }
    }

    #[test]
    fn every_refusal_names_the_key_the_problem_and_the_remedy() {
        let mut config = dev("http://localhost:4700");
        config.brand.color = Some("red".into());
        assert_eq!(config.check().unwrap_err().to_string(), "brand.color: \"red\" is not a colour; write it as #RRGGBB");
        for (url, secret, key) in [
            (Some("https://sms.example.com"), None, "sms.webhook_secret: "),
            (None, Some("0123456789abcdef"), "sms.webhook_secret: "),
            (Some("https://sms.example.com"), Some("short"), "sms.webhook_secret: "),
            (Some("sms.example.com"), Some("0123456789abcdef"), "sms.webhook_url: "),
        ] {
            let mut config = dev("http://localhost:4700");
            config.sms = Sms { webhook_url: url.map(str::to_owned), webhook_secret: secret.map(|text| Secret::new(text.to_owned())) };
            let refused = config.check().unwrap_err().to_string();
            assert!(refused.starts_with(key), "{refused}");
        }
        let config = Config { dev: false, ..dev("https://auth.example.com") };
        assert!(config.check().unwrap_err().to_string().starts_with("mail.smtp_url: is not set; "));
    }

    #[test]
    fn waits_are_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("6h", 21_600), ("2d", 172_800)] {
            assert_eq!(parse_span(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "10", "0s", "-1m", "+1m", "1.5h", "1w", "1 m", "m1", "é", "99999999999999999999d"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
        assert_eq!(Webhooks::default().waits().iter().map(Duration::as_secs).sum::<u64>(), 60 + 600 + 3_600 * 72);
        for (change, key) in [
            ((|webhooks| webhooks.retries = vec!["8d".into()]) as fn(&mut Webhooks), "webhooks.retries: "),
            (|webhooks| webhooks.retries = vec!["1m".into(); 21], "webhooks.retries: "),
            (|webhooks| webhooks.retries = vec!["6d".into(); 15], "webhooks.retries: "),
            (|webhooks| webhooks.timeout_seconds = 0, "webhooks.timeout_seconds: "),
            (|webhooks| webhooks.at_once = 0, "webhooks.at_once: "),
        ] {
            let mut config = dev("http://localhost:4700");
            change(&mut config.webhooks);
            let refused = config.check().unwrap_err().to_string();
            assert!(refused.starts_with(key), "{refused}");
        }
    }

    #[test]
    fn passkeys_belong_to_a_domain_that_browsers_would_take() {
        let with = |public_url: &str, rp_id: Option<&str>, origins: &[&str]| {
            let webauthn = Webauthn {
                rp_id: rp_id.map(str::to_owned),
                origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
                ..Webauthn::default()
            };
            Config { webauthn, ..dev(public_url) }
        };
        for (public_url, rp_id, origins, answer) in [
            ("http://localhost:4700", None, &[][..], Some("localhost")),
            ("https://auth.example.com:8443", None, &[], Some("auth.example.com")),
            ("http://127.0.0.1:4700", None, &[], None),
            ("http://[::1]:4700", None, &[], None),
            ("https://auth.example.com", Some("auth.example.com"), &["https://a.auth.example.com"], Some("auth.example.com")),
            (
                "https://auth.example.com",
                Some("example.com"),
                &["https://app.example.com:444", "android:apk-key-hash:x"],
                Some("example.com"),
            ),
            ("https://auth.example.co.uk", Some("example.co.uk"), &[], Some("example.co.uk")),
        ] {
            let config = with(public_url, rp_id, origins);
            config.check().unwrap();
            assert_eq!(config.rp_id(), answer, "{public_url} {rp_id:?}");
            assert_eq!(config.webauthn_origins().len(), 1 + origins.len());
        }
        for (rp_id, origins, key) in [
            (Some("com"), &[][..], "webauthn.rp_id: "),
            (Some(""), &[], "webauthn.rp_id: "),
            (Some("xample.com"), &[], "webauthn.rp_id: "),
            (Some("evil.example"), &[], "webauthn.rp_id: "),
            (Some("a.auth.example.com"), &[], "webauthn.rp_id: "),
            (Some("https://example.com"), &[], "webauthn.rp_id: "),
            (None, &["https://app.example.com"], "webauthn.origins: "),
            (Some("example.com"), &["http://app.example.com"], "webauthn.origins: "),
            (Some("example.com"), &["https://app.example.com/"], "webauthn.origins: "),
            (Some("example.com"), &["https://evilexample.com"], "webauthn.origins: "),
            (Some("example.com"), &["https://u@app.example.com"], "webauthn.origins: "),
        ] {
            let refused = with("https://auth.example.com", rp_id, origins).check().unwrap_err().to_string();
            assert!(refused.starts_with(key), "{rp_id:?} {origins:?}: {refused}");
        }
        assert!(with("https://auth.example.co.uk", Some("co.uk"), &[]).check().is_err());
    }

    #[test]
    fn forwarded_addresses_are_believed_from_named_proxies_only() {
        let config = Config { trusted_proxies: vec!["10.0.0.0/8".into(), "2001:db8::1".into()], ..dev("http://localhost") };
        assert!(
            config.trusts("10.9.8.7".parse().unwrap())
                && config.trusts("::ffff:10.0.0.1".parse().unwrap())
                && config.trusts("2001:db8::1".parse().unwrap())
        );
        assert!(!config.trusts("11.0.0.1".parse().unwrap()) && !config.trusts("2001:db8::2".parse().unwrap()));
    }
}
