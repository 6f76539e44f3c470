//! What the browser carries through a sign-in, in a cookie for each.

use std::time::Duration;

use gatewright_base::{Rng, Secret, Timestamp};
use gatewright_jose::{MasterKey, b64, sha256};
use serde::{Deserialize, Serialize};

use crate::session::{SessionSettings, cookies};
use crate::{Config, Many};

/// How long a person may take at the sign-in pages.
pub(super) const ATTEMPT_LIFETIME: Duration = Duration::from_secs(600);
/// Attempts at a time in one browser, and what their cookies may weigh together: they come with every request.
const MAX_ATTEMPTS: usize = 8;
pub(super) const MAX_ATTEMPTS_LEN: usize = 4096;
pub(super) const ID_LEN: usize = 8;

/// What an attempt's cookie holds. Short names: it travels with every request.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    #[serde(rename = "s")]
    pub(super) state: String,
    #[serde(rename = "v")]
    pub(super) verifier: String,
    /// Milliseconds since 1970.
    #[serde(rename = "t")]
    pub(super) begun: i64,
    #[serde(rename = "r")]
    pub(super) return_to: String,
}

impl Attempt {
    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        let begun = Timestamp::from_millis(self.begun);
        // Nodes of one app may differ by a minute.
        now < begun.plus(ATTEMPT_LIFETIME) && begun < now.plus(Duration::from_secs(60))
    }
}

pub(super) struct LoginKeys<'a> {
    /// Derived from the cookie password, so that nobody can pass a session off as an attempt or the other way round.
    key: MasterKey,
    client_id: &'a str,
    prefix: String,
    pub(super) attributes: &'static str,
}

impl<'a> LoginKeys<'a> {
    pub(super) fn new(config: &'a Config, session: &SessionSettings) -> Self {
        let seed = sha256(Secret::new(format!("gatewright login\0{}", session.password.reveal())).reveal().as_bytes());
        let key = MasterKey::parse(Secret::new(b64::encode_url(seed)).reveal()).expect("43 characters of base64url are a master key");
        let name =
            session.cookie_name.strip_prefix("__Host-").or(session.cookie_name.strip_prefix("__Secure-")).unwrap_or(&session.cookie_name);
        // No SDK reads this cookie, so it can be `__Host-` wherever that works, and no sibling host can plant its own attempt here.
        // That costs `Path=/`; in exchange the page where a sign-in begins sees the attempts there are and can limit them.
        let (host, attributes) = match session.secure {
            true => ("__Host-", "; Path=/; HttpOnly; SameSite=Lax; Secure"),
            false => ("", "; Path=/; HttpOnly; SameSite=Lax"),
        };
        Self { key, client_id: &config.client_id, prefix: format!("{host}{name}_login_"), attributes }
    }

    pub(super) fn cookie_name(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    pub(super) fn clear(&self, name: &str) -> String {
        format!("{name}={}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT", self.attributes)
    }

    pub(super) fn seal(&self, attempt: &Attempt, rng: &dyn Rng) -> String {
        let plain = serde_json::to_vec(attempt).map(Secret::new).expect("texts and a number serialise");
        b64::encode_url(self.key.seal("login", &self.context(&attempt.state[..ID_LEN]), plain.reveal(), rng))
    }

    pub(super) fn open(&self, id: &str, value: &[u8]) -> Option<Attempt> {
        let sealed = b64::decode_url(std::str::from_utf8(value).ok()?)?;
        let plain = self.key.open("login", &self.context(id), &sealed).ok()?;
        serde_json::from_slice(plain.reveal()).ok()
    }

    /// An attempt opens under its own name alone, and for the application that began it.
    fn context(&self, id: &str) -> String {
        format!("{}/{id}", self.client_id)
    }
}

/// The names of the attempts among `sent` that are over, not ours, or the oldest beyond what a browser may have beside one more of
/// `new_len` octets.
pub(super) fn outdated<'a>(keys: &LoginKeys<'_>, sent: &Many<'a>, new_len: usize, now: Timestamp) -> impl Iterator<Item = &'a str> {
    let mut attempts: Vec<(i64, &'a str, usize)> = Vec::new();
    for (name, value) in cookies(sent) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_attempt_name(keys, name)) else { continue };
        if attempts.iter().any(|(_, other, _)| *other == name) {
            continue;
        }
        let attempt = keys.open(&name[keys.prefix.len()..], value).filter(|attempt| attempt.is_current(now));
        attempts.push((attempt.map_or(i64::MIN, |attempt| attempt.begun), name, name.len() + value.len()));
    }
    attempts.sort_by_key(|(begun, _, _)| std::cmp::Reverse(*begun));
    let (mut count, mut total) = (1, new_len);
    attempts.into_iter().filter_map(move |(begun, name, len)| {
        count += 1;
        total += len;
        (begun == i64::MIN || count > MAX_ATTEMPTS || total > MAX_ATTEMPTS_LEN).then_some(name)
    })
}

/// The name goes into `Set-Cookie`, and whoever plants cookies chooses it: only what could be one of ours.
fn is_attempt_name(keys: &LoginKeys<'_>, name: &str) -> bool {
    let id = name.strip_prefix(keys.prefix.as_str()).unwrap_or_default();
    id.len() == ID_LEN && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// The value of the cookie `name`; `None` as well if it comes with two values, of which one was planted.
pub(super) fn find_once<'a>(sent: &Many<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = cookies(sent).filter(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value);
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}
