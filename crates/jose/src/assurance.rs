//! How surely somebody was recognised, as tokens say it: `acr` (OpenID Connect Core §2) and `amr` (RFC 8176). Who writes these claims, who
//! asks for them in `acr_values` and who demands them of a caller all go by this file.

/// One factor. The levels are called as in NIST SP 800-63B.
pub const AAL1: &str = "aal1";
/// Two factors that differ.
pub const AAL2: &str = "aal2";
/// The multi-factor policy of OpenID PAPE, which other providers say and ask for.
pub const MULTI_FACTOR: &str = "http://schemas.openid.net/pape/policies/2007/06/multi-factor";

/// The `acr` of a sign-in with one factor or with two.
pub const fn acr(multi_factor: bool) -> &'static str {
    if multi_factor { AAL2 } else { AAL1 }
}

/// What an `acr` says about the number of factors; `None` for one that is not known here.
pub fn is_multi_factor_acr(acr: &str) -> Option<bool> {
    match acr {
        AAL2 | MULTI_FACTOR => Some(true),
        AAL1 => Some(false),
        _ => None,
    }
}

/// Whether these claims tell of more than one factor. A known `acr` decides. Without one it takes `mfa` itself, or methods of two different
/// factors (RFC 8176 §2): two of one factor (`otp` and `sms`) are one.
pub fn is_multi_factor(acr: Option<&str>, amr: &[impl AsRef<str>]) -> bool {
    const KNOWN: &[&str] = &["pwd", "pin", "kba"];
    const POSSESSED: &[&str] = &["otp", "hwk", "swk", "fido", "pop", "sc", "sms", "tel"];
    const INHERENT: &[&str] = &["face", "fpt", "iris", "retina", "vbm"];
    let used = |methods: &[&str]| amr.iter().any(|method| methods.contains(&method.as_ref()));
    let by_amr = || used(&["mfa"]) || [KNOWN, POSSESSED, INHERENT].into_iter().filter(|methods| used(methods)).count() >= 2;
    acr.and_then(is_multi_factor_acr).unwrap_or_else(by_amr)
}

/// Whether `acr_values`, which come in order of preference, ask for more than one factor: the first known one says. Unknown ones are passed
/// over, as they are voluntary (OpenID Connect Core §3.1.2.1).
pub fn asks_for_multi_factor(acr_values: &str) -> bool {
    acr_values.split(' ').find_map(is_multi_factor_acr).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_factor_means_factors_that_differ() {
        for (amr, suffices) in [
            (&["mfa"][..], true),
            (&["pwd", "mfa"], true),
            (&["pwd", "otp"], true),
            (&["pin", "hwk"], true),
            (&["hwk", "fpt"], true),
            (&["pwd", "face"], true),
            (&[], false),
            (&["pwd"], false),
            (&["otp"], false),
            (&["hwk"], false),
            (&["fpt"], false),
            (&["otp", "sms"], false),
            (&["pwd", "kba", "pin"], false),
            (&["pwd", "pwd"], false),
            (&["MFA"], false),
            (&["pwd", "user"], false),
            (&["pwd", "mca", "wia", "rba", "geo"], false),
        ] {
            assert_eq!(is_multi_factor(None, amr), suffices, "{amr:?}");
            assert_eq!(is_multi_factor(Some("1"), amr), suffices, "an unknown acr says nothing");
            assert!(is_multi_factor(Some(AAL2), amr) && is_multi_factor(Some(MULTI_FACTOR), amr));
            assert!(!is_multi_factor(Some(AAL1), amr), "{amr:?}: the issuer says that it was one");
        }
    }

    #[test]
    fn the_first_known_value_is_what_is_asked_for() {
        for (values, asked) in [
            ("aal2", true),
            (MULTI_FACTOR, true),
            ("urn:example:loa3 aal2", true),
            ("aal2 aal1", true),
            ("aal1 aal2", false),
            ("aal1", false),
            ("urn:example:loa3", false),
            ("AAL2", false),
            ("aal22", false),
            ("", false),
        ] {
            assert_eq!(asks_for_multi_factor(values), asked, "{values:?}");
        }
    }
}
