use gatewright_base::{Id, Kind, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::features::records::users::UserId;

/// The wire codes of a sign-in that waits for a challenge, which are also the steps its pending token is bound to.
pub const STEP_SIGN_IN: &str = "radar_challenge";
pub const STEP_SIGN_UP: &str = "radar_sign_up_challenge";

#[derive(Debug)]
pub struct RadarChallengeKind;
impl Kind for RadarChallengeKind {
    const PREFIX: &'static str = "radar_challenge";
}
/// Of a mailed one.
pub type RadarChallengeId = Id<RadarChallengeKind>;

#[derive(Debug)]
pub struct VerificationKind;
impl Kind for VerificationKind {
    const PREFIX: &'static str = "vrf";
}
/// Of one by SMS.
pub type VerificationId = Id<VerificationKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeType {
    Email,
    Sms,
}

impl ChallengeType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }
}

/// A challenge, with address and code still sealed.
#[derive(Clone)]
pub struct RadarChallenge {
    /// A [`RadarChallengeId`] or a [`VerificationId`].
    pub id: String,
    pub user_id: UserId,
    pub challenge_type: ChallengeType,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub(super) sent_to_sealed: Vec<u8>,
    pub(super) code_sealed: Vec<u8>,
}

impl std::fmt::Debug for RadarChallenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RadarChallenge({})", self.id)
    }
}

/// The data of `radar.challenge_created`: never the code.
#[derive(Clone, Debug, Serialize)]
pub struct ChallengeCreated {
    r#type: &'static str,
    radar_challenge_id: String,
    user_id: String,
    email: String,
}

impl ChallengeCreated {
    pub fn new(challenge: &RadarChallenge, email: &str) -> Self {
        Self {
            r#type: challenge.challenge_type.as_str(),
            radar_challenge_id: challenge.id.clone(),
            user_id: challenge.user_id.to_string(),
            email: email.to_owned(),
        }
    }
}

/// The upstream object `radar_challenge`, with its code: only for the holder of the environment's key.
#[derive(Serialize, ToSchema)]
#[schema(as = RadarChallenge)]
pub struct RadarChallengeView {
    #[schema(value_type = RadarChallengeTag)]
    object: &'static str,
    id: String,
    #[schema(value_type = RadarChallengeType)]
    r#type: &'static str,
    user_id: String,
    email: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    code: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarChallengeTag {
    RadarChallenge,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum RadarChallengeType {
    Email,
}

impl RadarChallengeView {
    pub fn new(challenge: &RadarChallenge, email: &str, code: &str) -> Self {
        Self {
            object: "radar_challenge",
            id: challenge.id.clone(),
            r#type: challenge.challenge_type.as_str(),
            user_id: challenge.user_id.to_string(),
            email: email.to_owned(),
            expires_at: challenge.expires_at,
            created_at: challenge.created_at,
            updated_at: challenge.updated_at,
            code: code.to_owned(),
        }
    }
}
