//! The body of a webhook: the event, exactly as JavaScript's `JSON.stringify` would write it.
//!
//! Receivers often have the body parsed before they think of the signature, and the Node helper then writes it again. So what is signed
//! must be what comes out of that: compact, UTF-8 as it is, numbers as JavaScript prints them, and keys that look like array
//! indices first and in their order, because that is where JavaScript puts them.

use serde_json::{Map, Number, Value};

use crate::platform::journal::{Sequenced, WireEvent};

/// The event as it is sent.
pub fn render(event: &Sequenced) -> String {
    let WireEvent { object, id, event, data, created_at, context } = WireEvent::from(event);
    let mut out = String::with_capacity(1_024);
    let fields: [(&str, Value); 6] = [
        ("object", object.into()),
        ("id", id.into()),
        ("event", event.into()),
        ("data", data),
        ("created_at", created_at.to_string().into()),
        ("context", context),
    ];
    write_fields(&mut out, fields.iter().map(|(key, value)| (*key, value)));
    out
}

/// A body with line breaks for people to read, and else as it was sent.
pub fn indented(body: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::with_capacity(body.len() * 2), 0_usize, false, false);
    let mut rest = body.chars().peekable();
    while let Some(char) = rest.next() {
        let opens = !in_text && matches!(char, '{' | '[');
        if !in_text && matches!(char, '}' | ']') {
            depth = depth.saturating_sub(1);
            if !out.ends_with(['{', '[']) {
                break_line(&mut out, depth);
            }
        }
        out.push(char);
        if in_text {
            in_text = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char == '"' {
            in_text = true;
        } else if char == ':' {
            out.push(' ');
        } else if char == ',' {
            break_line(&mut out, depth);
        } else if opens {
            depth += 1;
            if !matches!(rest.peek(), Some('}' | ']')) {
                break_line(&mut out, depth);
            }
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => write_fields(out, in_order(map).into_iter()),
    }
}

fn write_fields<'a>(out: &mut String, fields: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (at, (key, value)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(out, key);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str) {
    // The same escapes as JavaScript's, in the same spelling.
    out.push_str(&Value::from(text).to_string());
}

fn in_order(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut fields: Vec<(&str, &Value)> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
    // Stable: other keys stay as they are.
    fields.sort_by_key(|(key, _)| array_index(key).map_or(u64::MAX, u64::from));
    fields
}

/// The number, if a key is one as JavaScript writes array indices: 0 to 2^32 - 2, no leading zero.
fn array_index(key: &str) -> Option<u32> {
    let number = key.parse::<u32>().ok().filter(|number| *number < u32::MAX)?;
    (number.to_string() == key).then_some(number)
}

/// Largest integer that every double up to it stands for itself.
const EXACT: u64 = 1 << 53;

fn number_text(number: &Number) -> String {
    if let Some(integer) = number.as_i64().filter(|integer| integer.unsigned_abs() <= EXACT) {
        return integer.to_string();
    }
    double_text(number.as_f64().unwrap_or(0.0))
}

/// `Number::toString` of ECMA-262.
fn double_text(double: f64) -> String {
    if double == 0.0 || !double.is_finite() {
        return "0".to_owned();
    }
    // The shortest digits that read back as this double: JavaScript's too.
    let scientific = format!("{:e}", double.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let (length, point) = (i32::try_from(digits.len()).unwrap_or(i32::MAX), exponent.parse::<i32>().unwrap_or(0) + 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0));
    let text = if length <= point && point <= 21 {
        format!("{digits}{}", zeros(point - length))
    } else if 0 < point && point <= 21 {
        let (whole, rest) = split(point);
        format!("{whole}.{rest}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{}{}", if point > 0 { "+" } else { "-" }, (point - 1).abs())
    };
    if double < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    /// Each right side is what Node prints for `JSON.stringify(JSON.parse(left))`.
    #[test]
    fn values_are_written_as_javascript_writes_them() {
        for (given, written) in [
            (r#"{ "b": 1, "a": [ true , null ] }"#, r#"{"a":[true,null],"b":1}"#),
            (r#""Zo\u00eb \u2028 \/ \u007f \ud83d\ude00""#, "\"Zoë \u{2028} / \u{7f} 😀\""),
            (r#""\b\f\n\r\t\"\\\u0000\u001f""#, r#""\b\f\n\r\t\"\\\u0000\u001f""#),
            ("1.0", "1"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1e21", "1e+21"),
            ("123456789012345680000", "123456789012345680000"),
            ("1.5e300", "1.5e+300"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("-0.00000012", "-1.2e-7"),
            ("9007199254740992", "9007199254740992"),
            ("9007199254740993", "9007199254740992"),
            ("12345678901234567890", "12345678901234567000"),
            ("-9223372036854775808", "-9223372036854776000"),
            ("0.1", "0.1"),
            ("5e-324", "5e-324"),
            (
                r#"{"b":0,"10":1,"2":2,"01":3,"-1":4,"4294967294":5,"4294967295":6}"#,
                r#"{"2":2,"10":1,"4294967294":5,"-1":4,"01":3,"4294967295":6,"b":0}"#,
            ),
            ("[]", "[]"),
            ("{}", "{}"),
        ] {
            assert_eq!(text(&serde_json::from_str(given).unwrap()), written, "{given}");
        }
    }

    #[test]
    fn a_body_is_shown_in_the_order_in_which_it_was_sent() {
        let body = r#"{"b":[1,{"c":"{\"x\": [,]}\\"},[]],"a":{}}"#;
        let shown = "{\n  \"b\": [\n    1,\n    {\n      \"c\": \"{\\\"x\\\": [,]}\\\\\"\n    },\n    []\n  ],\n  \"a\": {}\n}";
        assert_eq!(indented(body), shown);
        assert_eq!(serde_json::from_str::<Value>(&indented(body)).unwrap(), serde_json::from_str::<Value>(body).unwrap());
    }

    #[test]
    fn the_body_is_the_event_of_the_contract() {
        let event = Sequenced {
            seq: 7,
            id: "event_1".into(),
            event: "user.created".into(),
            data: json!({"id": "user_1", "first_name": "Zoë"}),
            context: json!({}),
            actor: json!({"source": "api", "id": "key_1"}),
            organization_id: None,
            created_at: Timestamp::from_millis(1_768_478_400_007),
        };
        let body = render(&event);
        assert!(
            body.starts_with(r#"{"object":"event","id":"event_1","event":"user.created","data":{"first_name":"Zoë","id":"user_1"},"#),
            "{body}"
        );
        assert!(body.contains(r#""created_at":"2026-01-15T12:00:00.007Z","context":{"#), "{body}");
        let parsed: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed, serde_json::to_value(WireEvent::from(&event)).unwrap());
    }
}
