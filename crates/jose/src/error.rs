/// What went wrong on our side of the wire: a key, a sealed value or claims that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    #[error("the key could not be generated")]
    KeyGeneration,
    #[error("the private key is not a PKCS#8 key of the stated algorithm (RSA: 2048 to 4096 bits)")]
    PrivateKey,
    #[error("the key failed to sign")]
    Signing,
    #[error("claims must serialise to a JSON object")]
    Claims,
    #[error("the signed token would be longer than any verifier here accepts")]
    TooLong,
    #[error("the certificate for the key could not be made: its validity or subject is out of range")]
    Certificate,
    #[error("unusable JWK: {0}")]
    Jwk(&'static str),
    #[error("a master key is 32 bytes as 64 hexadecimal digits or as base64")]
    MasterKeyText,
    #[error("the sealed value does not open: other master key, other row or column, or altered")]
    Sealed,
}

/// Why a token is not believed. For the log; a peer gets its protocol's error and nothing of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("the sender's token is longer than 16 kB")]
    TooLong,
    #[error("the sender's token is not three strict base64url parts holding a JSON header (and JSON claims of the right types)")]
    Malformed,
    #[error("the sender's token names a header parameter or claim twice")]
    DuplicateMember,
    #[error("the sender's token demands a header extension (`crit` or `b64`); none is supported")]
    CriticalHeader,
    #[error("the sender's token names an algorithm that is unknown, not expected here or not the key's")]
    AlgorithmNotAllowed,
    #[error("the sender's token does not say which key signed it (`kid`)")]
    MissingKeyId,
    #[error("the sender's token names a key that is not in the key set")]
    UnknownKey,
    #[error("the signature was not made by the named key over this token")]
    BadSignature,
    #[error("the signer's token is of another kind (`typ`, `cty`) than the one expected here")]
    WrongType,
    #[error("the signer's token has no `exp`, or an `exp`, `nbf` or `iat` that is not a number of seconds")]
    BadTime,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet (`nbf` or `iat` lies in the future)")]
    NotYetValid,
    #[error("the token was issued by another issuer")]
    WrongIssuer,
    #[error("the token was issued for another audience")]
    WrongAudience,
}
