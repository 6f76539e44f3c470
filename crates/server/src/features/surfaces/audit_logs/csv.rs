//! Events as the lines of a CSV file (RFC 4180; columns by contract 8, row 19). What stands in a cell was written by people who may
//! mean harm to whoever opens the file: no cell is a formula, and none holds a character that moves a cursor or ends a line.

use serde_json::Value;

use crate::features::records::audit_log_events::AuditLogEvent;

pub const HEADER: &str = "\"id\",\"action\",\"occurred_at\",\"actor_id\",\"actor_type\",\"actor_name\",\"actor_metadata\",\"targets\",\
     \"context_location\",\"context_user_agent\",\"metadata\",\"version\"\r\n";

/// Appends the event's line.
pub fn render_line(event: &AuditLogEvent, out: &mut String) {
    let text = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let json = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let cells = [
        event.id.to_string(),
        event.action.clone(),
        event.occurred_at.to_string(),
        text(&event.actor, "id"),
        text(&event.actor, "type"),
        text(&event.actor, "name"),
        json(&event.actor["metadata"]),
        json(&event.targets),
        text(&event.context, "location"),
        text(&event.context, "user_agent"),
        json(&event.metadata),
        event.version.to_string(),
    ];
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        render_cell(cell, out);
    }
    out.push_str("\r\n");
}

fn render_cell(text: &str, out: &mut String) {
    out.push('"');
    if would_be_formula(text) {
        out.push('\'');
    }
    for (at, c) in text.char_indices() {
        match c {
            '"' => out.push_str("\"\""),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            c if is_hidden(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            ';' => {
                out.push(';');
                // Where lists are written with semicolons, a spreadsheet begins a cell behind each, whatever the quotes say.
                if would_be_formula(&text[at + 1..]) {
                    out.push('\'');
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Spreadsheets run what begins so, some of them behind white space and in the wide forms, too.
fn would_be_formula(text: &str) -> bool {
    let first = text.chars().next();
    let shown = text.chars().find(|c| !c.is_whitespace() && !is_hidden(*c));
    matches!(first, Some('\t' | '\r' | '\n')) || matches!(shown, Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '−'))
}

/// Controls (ANSI sequences begin with one), and what ends a line, turns the direction of writing or is not seen.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use gatewright_base::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::features::records::audit_log_events::AuditLogEventId;
    use crate::features::records::organizations::OrganizationId;

    fn cell(text: &str) -> String {
        let mut out = String::new();
        render_cell(text, &mut out);
        out
    }

    #[test]
    fn row_58_a_cell_is_never_a_formula() {
        for (text, shown) in [
            ("=cmd|'/C calc'!A0", "\"'=cmd|'/C calc'!A0\""),
            ("+1", "\"'+1\""),
            ("-2+3", "\"'-2+3\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\\t=1\""),
            ("\r=1", "\"'\\r=1\""),
            ("\n=1", "\"'\\n=1\""),
            (" =1", "\"' =1\""),
            ("\u{feff}=1", "\"'\\ufeff=1\""),
            ("＝1", "\"'＝1\""),
            ("\"=1", "\"\"\"=1\""),
            ("a=1", "\"a=1\""),
            ("a;=cmd|'/C calc'!A0;b", "\"a;'=cmd|'/C calc'!A0;b\""),
            ("a; @SUM(A1);-1", "\"a;' @SUM(A1);'-1\""),
            ("Mozilla/5.0 (X11; Linux)", "\"Mozilla/5.0 (X11; Linux)\""),
            ("", "\"\""),
        ] {
            assert_eq!(cell(text), shown, "{text:?}");
        }
    }

    #[test]
    fn row_58_no_cell_ends_a_line_or_moves_a_cursor() {
        assert_eq!(cell("a\r\n\"x\",b"), "\"a\\r\\n\"\"x\"\",b\"");
        assert_eq!(cell("\u{1b}[2K\u{9b}1A\u{7f}\u{202e}\u{2028}"), "\"\\u001b[2K\\u009b1A\\u007f\\u202e\\u2028\"");
        assert_eq!(cell("Zoë 火"), "\"Zoë 火\"");
    }

    #[test]
    fn a_line_has_a_cell_for_each_column() {
        let event = AuditLogEvent {
            id: AuditLogEventId::from_text("audit_log_event_01"),
            organization_id: OrganizationId::from_text("org_01"),
            action: "user.viewed".to_owned(),
            version: 2,
            occurred_at: Timestamp::from_millis(0),
            actor: json!({"id": "u1", "type": "user", "metadata": {"role": "a\u{1b}b"}}),
            targets: json!([{"id": "=1", "type": "team"}]),
            context: json!({"location": "::1"}),
            metadata: json!({}),
            created_at: Timestamp::from_millis(0),
        };
        let mut out = HEADER.to_owned();
        render_line(&event, &mut out);
        assert_eq!(
            out.lines().nth(1),
            Some(
                "\"audit_log_event_01\",\"user.viewed\",\"1970-01-01T00:00:00.000Z\",\"u1\",\"user\",\"\",\"{\"\"role\"\":\"\"a\\u001bb\"\"}\",\
                 \"[{\"\"id\"\":\"\"=1\"\",\"\"type\"\":\"\"team\"\"}]\",\"::1\",\"\",\"{}\",\"2\""
            )
        );
        assert_eq!(HEADER.matches(',').count(), 11);
        assert_eq!(out.matches("\r\n").count(), 2);
    }
}
