//! A sorted list of SHA-1 digests on disk, asked without being read: one `DIGEST:COUNT` a line, as Have I Been Pwned publishes it. Forty
//! gigabytes of it cost two dozen reads an answer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Hex digits of a digest.
const DIGITS: usize = 40;
/// No line is longer: the digest, a colon, a count and the end of the line.
const LONGEST_LINE: usize = 80;
/// Lines that are looked at when it is opened. As many of a list with another order are in order by chance once in more tries than there
/// are atoms.
const PROBES: u64 = 64;
/// What is left is read at once when it is this short.
const BLOCK: u64 = 4_096;

/// The open list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HashList(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    length: u64,
}

impl HashList {
    /// Opens the list and looks at both ends and in between: a file of another kind, or one that is not sorted, would answer no to
    /// nearly everything.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let list = Self(Arc::new(Inner { file, length }));
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let first = list.line_after(0)?.ok_or_else(|| wrong("it has no line SHA1:COUNT at its begin"))?;
        let last = list.last_line()?.ok_or_else(|| wrong("it has no line SHA1:COUNT at its end"))?;
        let mut seen = vec![first];
        for part in 1..PROBES {
            let offset = length / PROBES * part;
            match list.line_after(offset)? {
                Some(digest) => seen.push(digest),
                // Within the last line there is none after it.
                None if offset + LONGEST_LINE as u64 >= length => {}
                None => return Err(wrong("it has lines that are not SHA1:COUNT")),
            }
        }
        seen.push(last);
        if seen.is_sorted() { Ok(list) } else { Err(wrong("it is not sorted by digest: take the list that is ordered by hash")) }
    }

    /// Whether `digest` is in the list. Reads from disk: not for an async thread.
    pub fn contains(&self, digest: &[u8; 20]) -> io::Result<bool> {
        let wanted = hex(digest);
        let (mut low, mut high) = (0, self.0.length);
        // The line that holds the digest begins at or after `low` and before `high`.
        while high - low > BLOCK {
            let middle = low + (high - low) / 2;
            match self.line_after(middle)? {
                Some(found) if found == wanted => return Ok(true),
                Some(found) if found < wanted => low = middle,
                _ => high = middle,
            }
        }
        // From the start of the line that `low` is in, if it is within one, to the end of the one that begins before `high`.
        let from = low.saturating_sub(LONGEST_LINE as u64);
        let text = self.read(from, (high - from) as usize + 2 * LONGEST_LINE)?;
        Ok(text.split(|byte| *byte == b'\n').any(|line| parse(line) == Some(wanted)))
    }

    /// The digest of the first line that begins at `offset` or later; at 0, of the first line.
    fn line_after(&self, offset: u64) -> io::Result<Option<[u8; DIGITS]>> {
        let text = self.read(offset.saturating_sub(1), 2 * LONGEST_LINE + 1)?;
        let rest =
            if offset == 0 { Some(text.as_slice()) } else { text.iter().position(|byte| *byte == b'\n').map(|end| &text[end + 1..]) };
        Ok(rest.and_then(|rest| parse(rest.split(|byte| *byte == b'\n').next().unwrap_or_default())))
    }

    fn last_line(&self) -> io::Result<Option<[u8; DIGITS]>> {
        let text = self.read(self.0.length.saturating_sub(2 * LONGEST_LINE as u64), 2 * LONGEST_LINE)?;
        Ok(text.split(|byte| *byte == b'\n').rev().find(|line| !line.is_empty()).and_then(parse))
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut text = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.0.file.read_at(&mut text[filled..], offset + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        text.truncate(filled);
        Ok(text)
    }
}

/// The digest of a line, in capitals.
fn parse(line: &[u8]) -> Option<[u8; DIGITS]> {
    let (digest, rest) = line.split_first_chunk::<DIGITS>()?;
    let ends = matches!(rest.first(), None | Some(b':' | b'\r'));
    (ends && digest.iter().all(u8::is_ascii_hexdigit)).then(|| digest.map(|digit| digit.to_ascii_uppercase()))
}

fn hex(digest: &[u8; 20]) -> [u8; DIGITS] {
    let mut text = [0; DIGITS];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = b"0123456789ABCDEF"[usize::from(half)];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha1::{Digest, Sha1};

    use super::*;

    fn digest(number: u32) -> [u8; 20] {
        Sha1::digest(number.to_be_bytes()).into()
    }

    /// Lines of several lengths, as counts have them.
    fn list(numbers: impl Iterator<Item = u32>, end: &str) -> (tempfile::NamedTempFile, Vec<u32>) {
        let numbers: Vec<u32> = numbers.collect();
        let mut lines: Vec<String> =
            numbers.iter().map(|number| format!("{}:{}", String::from_utf8_lossy(&hex(&digest(*number))), number * 37)).collect();
        lines.sort();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all((lines.join(end) + end).as_bytes()).unwrap();
        (file, numbers)
    }

    #[test]
    fn every_digest_of_a_list_is_found_and_no_other() {
        for (length, end) in [(1, "\n"), (2, "\r\n"), (90, "\n"), (200, "\r\n"), (5_000, "\n"), (5_000, "\r\n")] {
            let (file, numbers) = list(0..length, end);
            let list = HashList::open(file.path()).unwrap();
            for number in numbers {
                assert!(list.contains(&digest(number)).unwrap(), "{number} of {length}");
                assert!(!list.contains(&digest(number + 1_000_000)).unwrap(), "{number} of {length}");
            }
            for edge in [[0; 20], [255; 20]] {
                assert!(!list.contains(&edge).unwrap());
            }
        }
    }

    #[test]
    fn row_43_the_first_and_the_last_line_are_found_however_the_file_is_written() {
        for length in [1_usize, 2, 3, 94, 95, 96, 2_000] {
            let mut digests: Vec<[u8; 20]> = (0..length).map(|number| digest(u32::try_from(number).unwrap())).collect();
            digests.sort_unstable();
            for (line_end, file_end, lower) in [("\n", "", false), ("\r\n", "", true), ("\n", "\n\n\n", true), ("\r\n", "\r\n", false)] {
                let line = |digest: &[u8; 20]| String::from_utf8(hex(digest).to_vec()).unwrap() + ":1";
                let text = digests.iter().map(line).collect::<Vec<_>>().join(line_end) + file_end;
                let text = if lower { text.to_ascii_lowercase() } else { text };
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                let list = HashList::open(file.path()).unwrap();
                for digest in [digests[0], digests[length / 2], digests[length - 1]] {
                    assert!(list.contains(&digest).unwrap(), "{length} {line_end:?} {file_end:?}");
                }
                assert!(!list.contains(&[0; 20]).unwrap() && !list.contains(&[255; 20]).unwrap());
            }
        }
    }

    #[test]
    fn a_file_that_is_no_sorted_list_is_refused_when_it_is_opened() {
        let sorted = |lines: &[&str]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(lines.join("\n").as_bytes()).unwrap();
            HashList::open(file.path())
        };
        let (low, high) = ("0".repeat(40) + ":3", "F".repeat(40) + ":1");
        assert!(sorted(&[&low, &high]).is_ok());
        assert!(sorted(&[&high, &low]).unwrap_err().to_string().contains("not sorted"));
        // In order at its ends and in its middle, as one in eight lists in the order of counts is.
        let digits = |number: u32| format!("{number:040X}:1");
        let shuffled: Vec<String> = (0..1_001).map(|number| digits(if number % 500 == 0 { number } else { 1_000 - number })).collect();
        let shuffled: Vec<&str> = shuffled.iter().map(String::as_str).collect();
        assert!(sorted(&shuffled).unwrap_err().to_string().contains("not sorted"));
        let mut odd: Vec<String> = (0..1_001).map(digits).collect();
        odd[300..700].fill("a line that is none".repeat(2));
        let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
        assert!(sorted(&odd).unwrap_err().to_string().contains("lines that are not"));
        for wrong in [&[""][..], &["password"], &[&low, "rubbish"], &[&"0".repeat(32)]] {
            assert_eq!(sorted(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
        assert_eq!(HashList::open(Path::new("/nowhere/at/all")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
