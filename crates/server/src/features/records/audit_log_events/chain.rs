//! The tags that tie events together, all under one key that is derived from the master key and is not in the database.

use gatewright_jose::{MasterKey, eq_constant_time, hmac_sha256};

use super::model::{Chain, Head, NewAuditLogEvent};
use crate::platform::cx::EnvironmentId;

/// The key of the tags.
pub struct Keys([u8; 32]);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    pub fn new(master_key: &MasterKey) -> Self {
        Self(master_key.derive("audit_log_events"))
    }

    /// Says that the server wrote this row.
    pub fn seal(&self, environment: &EnvironmentId, event: &NewAuditLogEvent) -> [u8; 32] {
        self.tag(&row_fields("seal", environment, event))
    }

    pub fn is_seal(&self, environment: &EnvironmentId, event: &NewAuditLogEvent, seal: &[u8]) -> bool {
        eq_constant_time(&self.seal(environment, event), seal)
    }

    /// Ties the row to the one before it, and to its places.
    pub fn link(&self, environment: &EnvironmentId, before: &[u8], seq: i64, position: i64, event: &NewAuditLogEvent) -> [u8; 32] {
        let mut fields = row_fields("link", environment, event);
        fields.extend([before.to_vec(), number(seq), number(position)]);
        self.tag(&fields)
    }

    pub fn head(&self, environment: &EnvironmentId, head: &Head) -> [u8; 32] {
        self.tag(&[text("head"), text(environment.as_str()), number(head.seq), number(head.chains)])
    }

    pub fn is_head(&self, environment: &EnvironmentId, head: &Head, mac: &[u8]) -> bool {
        eq_constant_time(&self.head(environment, head), mac)
    }

    pub fn chain(&self, environment: &EnvironmentId, chain: &Chain) -> [u8; 32] {
        let Chain { organization_id, number: of, cut_position, cut_link, end_position, end_link } = chain;
        let whose = [text("chain"), text(environment.as_str()), text(organization_id.as_str())];
        let ends = [number(*of), number(*cut_position), cut_link.clone(), number(*end_position), end_link.clone()];
        self.tag(&[whose.as_slice(), ends.as_slice()].concat())
    }

    pub fn is_chain(&self, environment: &EnvironmentId, chain: &Chain, mac: &[u8]) -> bool {
        eq_constant_time(&self.chain(environment, chain), mac)
    }

    fn tag(&self, fields: &[Vec<u8>]) -> [u8; 32] {
        // Each field under its length: no two rows give one text.
        let data: Vec<u8> =
            fields.iter().flat_map(|field| (field.len() as u64).to_be_bytes().into_iter().chain(field.iter().copied())).collect();
        hmac_sha256(&self.0, &data)
    }
}

/// The tag of a row that goes on from a genuine one; what goes on from a forged one must never pass for genuine.
pub fn mac_or_broken(genuine: bool, mac: [u8; 32]) -> [u8; 32] {
    if genuine { mac } else { [0; 32] }
}

fn row_fields(kind: &str, environment: &EnvironmentId, new: &NewAuditLogEvent) -> Vec<Vec<u8>> {
    let (event, texts) = (&new.event, &new.texts);
    vec![
        text(kind),
        text(environment.as_str()),
        text(event.organization_id.as_str()),
        text(event.id.as_str()),
        text(&event.action),
        number(event.version),
        number(event.occurred_at.millis()),
        text(&texts.actor),
        text(&texts.targets),
        text(&texts.context),
        text(&texts.metadata),
        number(event.created_at.millis()),
    ]
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn number(number: i64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use gatewright_base::{SeededRng, Timestamp};
    use serde_json::json;

    use super::super::model::AuditLogEvent;
    use super::*;
    use crate::features::records::organizations::OrganizationId;

    fn event() -> AuditLogEvent {
        AuditLogEvent {
            id: super::super::AuditLogEventId::from_text("audit_log_event_1"),
            organization_id: OrganizationId::from_text("org_1"),
            action: "user.viewed".to_owned(),
            version: 1,
            occurred_at: Timestamp::from_millis(1),
            actor: json!({"id": "a", "type": "user"}),
            targets: json!([{"id": "t", "type": "team"}]),
            context: json!({"location": "::1"}),
            metadata: json!({"a": 1}),
            created_at: Timestamp::from_millis(2),
        }
    }

    #[test]
    fn every_field_of_a_row_counts_for_seal_and_link() {
        let keys = Keys::new(&MasterKey::generate(&SeededRng::new(1)));
        let environment = EnvironmentId::from_text("environment_1");
        let tags = |event: AuditLogEvent| {
            let new = NewAuditLogEvent::new(event);
            (keys.seal(&environment, &new), keys.link(&environment, b"before", 7, 3, &new))
        };
        let (seal, link) = tags(event());
        assert_ne!(seal, link);
        let changes: [fn(&mut AuditLogEvent); 9] = [
            |e| e.id = super::super::AuditLogEventId::from_text("audit_log_event_2"),
            |e| e.organization_id = OrganizationId::from_text("org_2"),
            |e| e.action = "user.view".to_owned(),
            |e| e.version = 2,
            |e| e.occurred_at = Timestamp::from_millis(3),
            |e| e.actor["id"] = json!("b"),
            |e| e.targets[0]["id"] = json!("u"),
            |e| e.context["location"] = json!("::2"),
            |e| e.metadata["a"] = json!(2),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = event();
            change(&mut changed);
            let (other_seal, other_link) = tags(changed);
            assert!(other_seal != seal && other_link != link, "change {at}");
        }
        let new = NewAuditLogEvent::new(event());
        for other in [
            keys.link(&environment, b"befor", 7, 3, &new),
            keys.link(&environment, b"before", 8, 3, &new),
            keys.link(&environment, b"before", 7, 4, &new),
        ] {
            assert_ne!(other, link);
        }
        let elsewhere = EnvironmentId::from_text("environment_2");
        assert!(!keys.is_seal(&elsewhere, &new, &seal) && keys.is_seal(&environment, &new, &seal));
    }
}
