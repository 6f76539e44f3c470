//! The tags that hold the journal together. Pure.
//!
//! Three keys, all from the master key: one seals a row when it is written, one links it to the row before it when it gets its place,
//! one covers the head, which says where the chains end and where they begin. With the database alone none of them can be made.

use gatewright_base::Timestamp;
use gatewright_jose::{MasterKey, eq_constant_time, hmac_sha256};
use zeroize::Zeroizing;

use crate::platform::cx::EnvironmentId;

/// A tag, or a link of the chain.
pub type Tag = [u8; 32];

/// What of a row is sealed: all of it but its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub event: String,
    /// JSON, as it is stored.
    pub data: String,
    pub actor: String,
    pub context: Option<String>,
    pub organization_id: Option<String>,
    pub created_at: Timestamp,
}

/// The end of one chain, and what stands before its oldest row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub seq: i64,
    pub link: Vec<u8>,
    pub pruned_seq: i64,
    /// Empty where it is not known any more: the head was made anew.
    pub pruned_link: Vec<u8>,
}

/// One environment's head: how far its order goes, and its two chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    /// Rows that this server did not write; their places are -1, -2 ..
    pub rejected: i64,
    /// Rows up to this id were written before there were seals.
    pub unsealed_through: String,
    /// The contract's events.
    pub listed: End,
    /// The platform's own entries.
    pub own: End,
}

impl Default for End {
    fn default() -> Self {
        Self { seq: 0, link: vec![0; 32], pruned_seq: 0, pruned_link: vec![0; 32] }
    }
}

impl Head {
    pub fn end(&self, listed: bool) -> &End {
        if listed { &self.listed } else { &self.own }
    }

    pub fn end_mut(&mut self, listed: bool) -> &mut End {
        if listed { &mut self.listed } else { &mut self.own }
    }
}

/// The three keys.
pub struct Keys {
    row: Zeroizing<Tag>,
    link: Zeroizing<Tag>,
    head: Zeroizing<Tag>,
}

impl Keys {
    pub fn new(master_key: &MasterKey) -> Self {
        let key = |purpose| Zeroizing::new(master_key.derive(purpose));
        Self { row: key("journal.row"), link: key("journal.link"), head: key("journal.head") }
    }

    pub fn seal(&self, environment: &EnvironmentId, entry: &Entry) -> Tag {
        let mut text = Text::new(environment);
        text.put(&entry.id).put(&entry.event).put(&entry.data).put(&entry.actor);
        text.put_optional(entry.context.as_deref()).put_optional(entry.organization_id.as_deref());
        text.put(entry.created_at.millis().to_be_bytes());
        hmac_sha256(&*self.row, &text.0)
    }

    pub fn is_seal(&self, environment: &EnvironmentId, entry: &Entry, seal: &[u8]) -> bool {
        eq_constant_time(&self.seal(environment, entry), seal)
    }

    pub fn link(&self, environment: &EnvironmentId, previous: &[u8], seq: i64, id: &str, seal: &[u8]) -> Tag {
        let mut text = Text::new(environment);
        text.put(previous).put(seq.to_be_bytes()).put(id).put(seal);
        hmac_sha256(&*self.link, &text.0)
    }

    pub fn head(&self, environment: &EnvironmentId, head: &Head) -> Tag {
        let mut text = Text::new(environment);
        text.put(head.seq.to_be_bytes()).put(head.rejected.to_be_bytes()).put(&head.unsealed_through);
        for end in [&head.listed, &head.own] {
            text.put(end.seq.to_be_bytes()).put(&end.link).put(end.pruned_seq.to_be_bytes()).put(&end.pruned_link);
        }
        hmac_sha256(&*self.head, &text.0)
    }

    pub fn is_head(&self, environment: &EnvironmentId, head: &Head, mac: &[u8]) -> bool {
        eq_constant_time(&self.head(environment, head), mac)
    }
}

/// Fields under their lengths: no two lists of fields give one text.
struct Text(Vec<u8>);

impl Text {
    fn new(environment: &EnvironmentId) -> Self {
        let mut text = Self(Vec::with_capacity(1_024));
        text.put(environment.as_str());
        text
    }

    fn put(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        let field = field.as_ref();
        self.0.extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    fn put_optional(&mut self, field: Option<&str>) -> &mut Self {
        self.put([u8::from(field.is_some())]).put(field.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatewright_base::SeededRng;

    fn keys() -> Keys {
        Keys::new(&MasterKey::generate(&SeededRng::new(1)))
    }

    fn entry() -> Entry {
        Entry {
            id: "event_1".into(),
            event: "user.created".into(),
            data: "{}".into(),
            actor: "{}".into(),
            context: None,
            organization_id: Some("org_1".into()),
            created_at: Timestamp::from_millis(1),
        }
    }

    #[test]
    fn every_field_of_a_row_is_under_its_seal() {
        let (keys, environment) = (keys(), EnvironmentId::from_text("environment_1"));
        let seal = keys.seal(&environment, &entry());
        assert!(keys.is_seal(&environment, &entry(), &seal));
        let changes: [fn(&mut Entry); 8] = [
            |entry| entry.id.push('2'),
            |entry| entry.event = "user.deleted".into(),
            |entry| entry.data = "{ }".into(),
            |entry| entry.actor = "[]".into(),
            |entry| entry.context = Some(String::new()),
            |entry| entry.organization_id = None,
            |entry| entry.created_at = Timestamp::from_millis(2),
            |entry| (entry.data, entry.actor) = ("{}{}".into(), String::new()),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut changed = entry();
            change(&mut changed);
            assert!(!keys.is_seal(&environment, &changed, &seal), "{at}");
        }
        assert!(!keys.is_seal(&EnvironmentId::from_text("environment_2"), &entry(), &seal));
        let other = Keys::new(&MasterKey::generate(&SeededRng::new(2)));
        assert!(!other.is_seal(&environment, &entry(), &seal), "another master key seals otherwise");
    }

    #[test]
    fn every_field_of_a_head_is_under_its_tag() {
        let (keys, environment) = (keys(), EnvironmentId::from_text("environment_1"));
        let tag = keys.head(&environment, &Head::default());
        let changes: [fn(&mut Head); 11] = [
            |head| head.seq = 1,
            |head| head.rejected = 1,
            |head| head.unsealed_through = "event_1".into(),
            |head| head.listed.seq = 1,
            |head| head.listed.link = vec![1; 32],
            |head| head.listed.pruned_seq = 1,
            |head| head.listed.pruned_link = Vec::new(),
            |head| head.own.seq = 1,
            |head| head.own.link = vec![1; 32],
            |head| head.own.pruned_seq = 1,
            |head| head.own.pruned_link = Vec::new(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut changed = Head::default();
            change(&mut changed);
            assert!(!keys.is_head(&environment, &changed, &tag), "{at}");
        }
        assert!(keys.is_head(&environment, &Head::default(), &tag));
    }

    #[test]
    fn a_link_depends_on_the_row_before_and_on_the_place() {
        let (keys, environment) = (keys(), EnvironmentId::from_text("environment_1"));
        let link = keys.link(&environment, &[0; 32], 1, "event_1", &[7; 32]);
        assert_ne!(link, keys.link(&environment, &[1; 32], 1, "event_1", &[7; 32]));
        assert_ne!(link, keys.link(&environment, &[0; 32], 2, "event_1", &[7; 32]));
        assert_ne!(link, keys.link(&environment, &[0; 32], 1, "event_2", &[7; 32]));
        assert_ne!(link, keys.link(&environment, &[0; 32], 1, "event_1", &[8; 32]));
    }

    /// Tags outlive the version that made them.
    #[test]
    fn the_form_of_the_tags_is_fixed_for_good() {
        let (keys, environment) = (keys(), EnvironmentId::from_text("environment_1"));
        let hex = |tag: Tag| tag.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
        let seal = keys.seal(&environment, &entry());
        let link = keys.link(&environment, &[0; 32], 1, "event_1", &seal);
        assert_eq!([hex(seal), hex(link), hex(keys.head(&environment, &Head::default()))], ["b74bd7b7", "3929213f", "3f207705"]);
    }
}
