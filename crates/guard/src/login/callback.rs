//! What comes back from a sign-in: the query of the callback.

use gatewright_base::Secret;

use super::LoginFailure;

const MAX_QUERY: usize = 16 * 1024;
pub(super) const MAX_CODE: usize = 4096;
pub(super) const STATE_LEN: usize = 32;

/// The code of a callback that no app began: how an impersonation arrives, confirmed at the server's own page. Without `state` anybody
/// may have sent the browser here, so what comes of the code counts only if the server says that somebody acts as the user.
pub fn find_unsolicited(query: &str) -> Option<Secret<String>> {
    if query.len() > MAX_QUERY {
        return None;
    }
    let mut code = None;
    for (name, value) in form_urlencoded::parse(query.strip_prefix('?').unwrap_or(query).as_bytes()) {
        match &*name {
            "code" if code.is_none() => code = Some(value.into_owned()),
            "code" | "state" | "error" => return None,
            _ => {}
        }
    }
    code.filter(|code| !code.is_empty() && code.len() <= MAX_CODE).map(Secret::new)
}

#[derive(Default)]
pub(super) struct Callback {
    pub(super) state: String,
    pub(super) code: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

impl Callback {
    pub(super) fn parse(query: &str) -> Result<Self, LoginFailure> {
        if query.len() > MAX_QUERY {
            return Err(LoginFailure::Malformed("its query is too long"));
        }
        let (mut callback, mut state) = (Self::default(), None);
        for (name, value) in form_urlencoded::parse(query.strip_prefix('?').unwrap_or(query).as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut callback.code,
                "error" => &mut callback.error,
                "error_description" => &mut callback.error_description,
                _ => continue,
            };
            // RFC 6749 §3.1: no parameter more than once.
            if place.replace(value.into_owned()).is_some() {
                return Err(LoginFailure::Malformed("it names a parameter twice"));
            }
        }
        // Nobody says more about a callback without `state` than about one whose `state` is unknown: it was not begun here.
        callback.state = state.ok_or(LoginFailure::NotBegunHere)?;
        let is_state =
            callback.state.len() == STATE_LEN && callback.state.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if is_state { Ok(callback) } else { Err(LoginFailure::NotBegunHere) }
    }
}

/// Text from the wire on one line, at most `max` characters, none of which hides or turns round the others.
pub(super) fn plain(text: &str, max: usize) -> String {
    let is_seen = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(is_seen).take(max).collect::<String>().trim().to_owned()
}
