//! Whether a password is known from a breach: by a list on this machine's disk, by asking a service for all that begin alike, or both.

use std::time::Duration;

use axum::http::Method;
use sha1::{Digest, Sha1};

use super::model::normalized;
use crate::platform::cx::Cx;
use crate::platform::metrics::BreachLabels;
use crate::platform::outbound::OutboundRequest;

/// Somebody waits for the answer with a form in front of them.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A range has a thousand or two thousand lines of forty octets today, and more with each breach.
const MAX_RANGE: usize = 1 << 20;
/// Hex digits of the digest that leave this machine: each beginning is that of a thousand known passwords, and of all unknown ones.
const PREFIX: usize = 5;

/// Fails open: a list or a service that does not answer keeps nobody from choosing a password. It is logged and counted.
pub(super) async fn is_breached(cx: &Cx, password: &str) -> bool {
    if cx.breached().is_none() && cx.config().passwords.breached_url.is_none() {
        return false;
    }
    // As it was typed and as it will be hashed; nearly always they are one.
    let mut digests = vec![digest(password)];
    let normal = digest(&normalized(password));
    if normal != digests[0] {
        digests.push(normal);
    }
    for digest in digests {
        if in_list(cx, digest).await || in_ranges(cx, digest).await {
            return true;
        }
    }
    false
}

fn digest(text: &str) -> [u8; 20] {
    Sha1::digest(text.as_bytes()).into()
}

async fn in_list(cx: &Cx, digest: [u8; 20]) -> bool {
    let Some(list) = cx.breached().cloned() else { return false };
    let found = tokio::task::spawn_blocking(move || list.contains(&digest)).await;
    let found = found.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    counted(cx, "file", found.map_err(|error| error.to_string()))
}

async fn in_ranges(cx: &Cx, digest: [u8; 20]) -> bool {
    let Some(url) = &cx.config().passwords.breached_url else { return false };
    let text = digest.iter().fold(String::with_capacity(40), |text, byte| text + &format!("{byte:02X}"));
    let (prefix, suffix) = text.split_at(PREFIX);
    let request = OutboundRequest {
        method: Method::GET,
        url: format!("{}/{prefix}", url.trim_end_matches('/')),
        // Without padding the length of an encrypted answer tells which range was asked for.
        headers: vec![("add-padding".to_owned(), "true".to_owned())],
        body: Vec::new(),
        timeout: TIMEOUT,
    };
    let found = match cx.outbound().send_and_read(request, MAX_RANGE).await {
        Ok(answer) if answer.status == 200 => {
            let cut = answer.body.len() >= MAX_RANGE;
            match find_in_range(&answer.body, suffix) {
                Some(false) if cut => Err("the answer is too long".to_owned()),
                Some(found) => Ok(found),
                None => Err("the answer is no range of digests".to_owned()),
            }
        }
        Ok(answer) => Err(format!("the answer is {}", answer.status)),
        Err(error) => Err(error.to_string()),
    };
    counted(cx, "url", found)
}

/// Lines `SUFFIX:COUNT`; padding is lines with a count of zero. `None`: it is something else, such as the page of a proxy.
fn find_in_range(body: &[u8], suffix: &str) -> Option<bool> {
    let lines = body.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.trim().split_once(':'));
    let all = |text: &str, is: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(is);
    let mut known = lines
        .filter(|(digest, count)| digest.len() == suffix.len() && all(digest, u8::is_ascii_hexdigit) && all(count, u8::is_ascii_digit))
        .peekable();
    if known.peek().is_none() && !body.trim_ascii().is_empty() {
        return None;
    }
    Some(known.any(|(digest, count)| digest.eq_ignore_ascii_case(suffix) && count.bytes().any(|digit| digit != b'0')))
}

fn counted(cx: &Cx, source: &'static str, found: Result<bool, String>) -> bool {
    let outcome = match &found {
        Ok(true) => "breached",
        Ok(false) => "unknown",
        Err(_) => "failed",
    };
    cx.metrics().breach_checks.get_or_create(&BreachLabels { source, outcome }).inc();
    if let Err(error) = &found {
        tracing::warn!(source, error, "a new password could not be compared with those of breaches, and was taken without");
    }
    found.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_43_a_range_has_a_suffix_or_not_padding_is_nothing_and_other_texts_are_no_range() {
        let body = b"0018A45C4D1DEF81644B54AB7F969B88D65:10\r\n00D4F6E8FA6EECAD2A3AA415EEC418D38EC:0\r\n";
        assert_eq!(find_in_range(body, "0018A45C4D1DEF81644B54AB7F969B88D65"), Some(true));
        assert_eq!(find_in_range(body, "0018a45c4d1def81644b54ab7f969b88d65"), Some(true));
        assert_eq!(find_in_range(body, "00D4F6E8FA6EECAD2A3AA415EEC418D38EC"), Some(false), "padding");
        assert_eq!(find_in_range(body, "0018A45C4D1DEF81644B54AB7F969B88D66"), Some(false));
        let padding = b"00D4F6E8FA6EECAD2A3AA415EEC418D38EC:000";
        assert_eq!(find_in_range(padding, "00D4F6E8FA6EECAD2A3AA415EEC418D38EC"), Some(false));
        let huge = b"\xff\n00D4F6E8FA6EECAD2A3AA415EEC418D38EC:99999999999999999999999999";
        assert_eq!(find_in_range(huge, "00D4F6E8FA6EECAD2A3AA415EEC418D38EC"), Some(true));
        // A service without padding may know none that begin so.
        assert_eq!(find_in_range(b"\r\n", "0018A45C4D1DEF81644B54AB7F969B88D65"), Some(false));
        for other in ["<html><p>Sign in to the network: <a href=\"/\">here</a>", "{\"error\": \"gone\"}", "0018A45C:1", "\u{fffd}"] {
            assert_eq!(find_in_range(other.as_bytes(), "0018A45C4D1DEF81644B54AB7F969B88D65"), None, "{other}");
        }
    }
}
