const MAX_RETURN_TO: usize = 1024;

/// `path` if every browser and every server between takes it for a path of the app it is used in: it starts with one slash, and
/// nothing in it decodes to another authority, another directory or another header line.
pub fn same_origin_path(path: &str) -> Option<&str> {
    let octets = path.as_bytes();
    // Browsers drop tabs and line ends, and read `\` as `/` (WHATWG URL, "relative slash state"); what is not ASCII does not belong in `Location`.
    if octets.len() > MAX_RETURN_TO
        || octets.first() != Some(&b'/')
        || !octets.iter().all(|octet| matches!(octet, b'!'..=b'~') && *octet != b'\\')
    {
        return None;
    }
    let end = octets.iter().position(|octet| matches!(octet, b'?' | b'#')).unwrap_or(octets.len());
    let (before, after) = octets.split_at(end);
    let decoded = decode(before)?;
    decode(after)?;
    // A proxy may decode once and forward, or redirect, what it found: what `%2f` and `%2e` stand for is looked at below,
    // and `%5c`, `%0d` and `%25` (which would be decoded twice) have no place in a path of ours.
    if decoded.iter().any(|octet| matches!(octet, 0..b' ' | 0x7f | b'\\' | b'%')) {
        return None;
    }
    // Not even deeper in: `/.//host` and `/a/..//host` become `//host` where dots are removed before the redirect.
    let mut segments = decoded[1..].split(|octet| *octet == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return None;
        }
    }
    Some(path)
}

/// Percent-decoding, strict: `None` where `%` is not followed by two hexadecimal digits.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(octet) = rest.next() {
        out.push(match octet {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            other => *other,
        });
    }
    Some(out)
}
