/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the JSON, base64url or structure that a browser sends.
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Cbor(&'static str),
    /// The answer to another kind of question: an assertion in place of a registration, or the other way round.
    #[error("the type of the client data is another one")]
    WrongType,
    #[error("the challenge is another one")]
    WrongChallenge,
    #[error("the origin is not one of the relying party's")]
    WrongOrigin,
    /// Asked for within a frame of another site.
    #[error("the page was within a frame of another origin")]
    CrossOrigin,
    #[error("the answer is for another relying party")]
    WrongRpId,
    #[error("the user was not present")]
    UserNotPresent,
    #[error("the user was not verified")]
    UserNotVerified,
    #[error("{0}")]
    Flags(&'static str),
    #[error("{0}")]
    Key(&'static str),
    #[error("the key is of an algorithm that was not offered")]
    AlgorithmNotOffered,
    #[error("{0}")]
    Attestation(&'static str),
    #[error("the answer is by another credential")]
    WrongCredential,
    #[error("the credential is another user's")]
    WrongUser,
    #[error("the signature is not the credential's")]
    BadSignature,
    /// Two authenticators have the key, or somebody replays an old answer (§6.1.1).
    #[error("the signature counter went back")]
    CounterWentBack,
    /// A credential is made to be backed up, or not to be, once and for all (§6.1.3).
    #[error("the credential's backup eligibility changed")]
    BackupEligibilityChanged,
}

impl Refusal {
    /// For events and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Cbor(_) => "malformed",
            Self::WrongType => "wrong_type",
            Self::WrongChallenge => "wrong_challenge",
            Self::WrongOrigin => "wrong_origin",
            Self::CrossOrigin => "cross_origin",
            Self::WrongRpId => "wrong_rp_id",
            Self::UserNotPresent => "user_not_present",
            Self::UserNotVerified => "user_not_verified",
            Self::Flags(_) => "wrong_flags",
            Self::Key(_) => "wrong_key",
            Self::AlgorithmNotOffered => "algorithm_not_offered",
            Self::Attestation(_) => "wrong_attestation",
            Self::WrongCredential => "wrong_credential",
            Self::WrongUser => "wrong_user",
            Self::BadSignature => "wrong_signature",
            Self::CounterWentBack => "counter_went_back",
            Self::BackupEligibilityChanged => "backup_eligibility_changed",
        }
    }
}
