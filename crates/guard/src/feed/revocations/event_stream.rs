//! Server-sent events (WHATWG HTML, 9.2.6), read from octets however they are cut. Bounded: a peer that sends endless lines is refused.

/// Longest line, and longest data of one event, in octets. A revocation is a few hundred.
const MAX_LINE: usize = 16 * 1024;
const MAX_DATA: usize = 64 * 1024;

/// An event as it was dispatched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub name: String,
    pub data: String,
    /// The last `id` so far: this event's, or that of one before it.
    pub id: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

#[derive(Default)]
pub(super) struct EventStream {
    line: Vec<u8>,
    /// The line before ended with a carriage return: a line feed right after it belongs to that end.
    after_return: bool,
    has_begun: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl EventStream {
    /// Takes octets in; gives the events that they complete.
    pub fn push(&mut self, octets: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for &octet in octets {
            let ends_before = std::mem::replace(&mut self.after_return, octet == b'\r');
            match octet {
                b'\n' if ends_before => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&line, &mut events)?;
                    // Its room serves the next line.
                    self.line = line;
                    self.line.clear();
                }
                _ if self.line.len() >= MAX_LINE => return Err(TooLarge),
                octet => self.line.push(octet),
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let line = if std::mem::replace(&mut self.has_begun, true) { line } else { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) };
        if line.is_empty() {
            events.extend(self.dispatch());
            return Ok(());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.data.len() + value.len() >= MAX_DATA {
                    return Err(TooLarge);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // `retry` is ours to decide; an empty field is a comment.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        std::mem::take(&mut self.has_data).then(|| Event {
            name: if name.is_empty() { "message".to_owned() } else { name },
            data,
            id: self.id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, Option<String>)> {
        read_cut(text.as_bytes(), text.len().max(1)).unwrap()
    }

    fn read_cut(octets: &[u8], size: usize) -> Result<Vec<(String, String, Option<String>)>, TooLarge> {
        let mut stream = EventStream::default();
        let mut events = Vec::new();
        for part in octets.chunks(size) {
            events.extend(stream.push(part)?);
        }
        Ok(events.into_iter().map(|event| (event.name, event.data, event.id)).collect())
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> (String, String, Option<String>) {
        (name.to_owned(), data.to_owned(), id.map(str::to_owned))
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("", vec![]),
            ("data: a\n", vec![]),
            ("data: a\n\n", vec![event("message", "a", None)]),
            ("data:a\n\n", vec![event("message", "a", None)]),
            ("data:  a\n\n", vec![event("message", " a", None)]),
            ("event: beat\ndata: {}\n\n", vec![event("beat", "{}", None)]),
            ("event: beat\n\n", vec![]),
            ("data\n\n", vec![event("message", "", None)]),
            ("data: a\ndata: b\n\n", vec![event("message", "a\nb", None)]),
            (": comment\n\n", vec![]),
            ("id: 7\ndata: a\n\ndata: b\n\n", vec![event("message", "a", Some("7")), event("message", "b", Some("7"))]),
            ("id: 7\n\ndata: b\n\n", vec![event("message", "b", Some("7"))]),
            ("id: a\0b\ndata: a\n\n", vec![event("message", "a", None)]),
            ("retry: 1\nunknown: x\ndata: a\n\n", vec![event("message", "a", None)]),
            ("\u{feff}data: a\n\n", vec![event("message", "a", None)]),
            ("data: a\r\n\r\n", vec![event("message", "a", None)]),
            ("data: a\r\r", vec![event("message", "a", None)]),
            ("data: a\r\n\ndata: b\n\r\n", vec![event("message", "a", None), event("message", "b", None)]),
            ("event: x\ndata: a\n\ndata: b\n\n", vec![event("x", "a", None), event("message", "b", None)]),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn how_the_octets_are_cut_changes_nothing() {
        let text = "\u{feff}: hello\r\nid: 1\r\nevent: revocation\r\ndata: {\"subject\":\"sess\u{00f6}n\"}\r\n\r\nevent: ready\rdata: {}\r\rdata: x\ndata: y\n\n";
        let whole = read(text);
        assert_eq!(whole.len(), 3);
        for size in 1..text.len() {
            assert_eq!(read_cut(text.as_bytes(), size).unwrap(), whole, "{size}");
        }
    }

    #[test]
    fn endless_lines_and_endless_events_are_refused() {
        assert_eq!(read_cut(&vec![b'x'; MAX_LINE + 1], 100), Err(TooLarge));
        assert_eq!(read_cut(&[&vec![b'x'; MAX_LINE - 1][..], b"\n"].concat(), 100), Ok(vec![]));
        assert_eq!(read_cut("data: 0123456789\n".repeat(MAX_DATA / 10).as_bytes(), 1000), Err(TooLarge));
    }

    #[test]
    fn no_octets_at_all_bring_it_down() {
        let mut state = 7_u64;
        for _ in 0..2_000 {
            let octets: Vec<u8> = (0..200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let pick = (state >> 33) as usize;
                    b"data: id:event\r\n\r\n\0\xFF\xEF\xBB\xBF"[pick % 23]
                })
                .collect();
            let whole = read_cut(&octets, octets.len()).unwrap();
            assert_eq!(read_cut(&octets, 1 + octets[0] as usize % 9).unwrap(), whole);
        }
    }
}
