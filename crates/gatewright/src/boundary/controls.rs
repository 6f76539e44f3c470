//! The rows of other people's lists that lines of the page are evidence for.

use serde::Serialize;

/// A list that reviewers hold a deployment against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Framework {
    #[serde(rename = "NIST CSF 2.0")]
    Csf,
    #[serde(rename = "NIST SP 800-207")]
    ZeroTrust,
    #[serde(rename = "OWASP NHI Top 10 (2025)")]
    Nhi,
}

impl Framework {
    pub const ALL: [Self; 3] = [Self::Csf, Self::ZeroTrust, Self::Nhi];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csf => "NIST CSF 2.0",
            Self::ZeroTrust => "NIST SP 800-207",
            Self::Nhi => "OWASP NHI Top 10 (2025)",
        }
    }
}

macro_rules! controls {
    ($($name:ident: $framework:ident, $code:literal, $title:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Control { $($name),* }

        impl Control {
            /// In the order of the lists.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub fn framework(self) -> Framework {
                match self { $(Self::$name => Framework::$framework),* }
            }

            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

controls! {
    Identities: Csf, "PR.AA-01", "identities and credentials are managed";
    Proofing: Csf, "PR.AA-02", "identities are proofed and bound to credentials";
    Authentication: Csf, "PR.AA-03", "users, services and hardware are authenticated";
    Assertions: Csf, "PR.AA-04", "identity assertions are protected, conveyed and verified";
    Permissions: Csf, "PR.AA-05", "access permissions are managed, enforced and reviewed";
    AtRest: Csf, "PR.DS-01", "data at rest is protected";
    InTransit: Csf, "PR.DS-02", "data in transit is protected";
    Logs: Csf, "PR.PS-04", "log records are generated and made available";
    Contained: Csf, "RS.MI-01", "incidents are contained";
    Communication: ZeroTrust, "tenet 2", "all communication is secured regardless of network location";
    PerSession: ZeroTrust, "tenet 3", "access is granted on a per-session basis";
    Policy: ZeroTrust, "tenet 4", "access is determined by dynamic policy";
    Enforced: ZeroTrust, "tenet 6", "authentication and authorization are dynamic and strictly enforced before access";
    Collected: ZeroTrust, "tenet 7", "information is collected and used to improve the security posture";
    DecisionPoint: ZeroTrust, "PDP", "policy engine and administrator: who decides, and opens and ends sessions";
    EnforcementPoint: ZeroTrust, "PEP", "policy enforcement point: who lets in and refuses";
    Offboarding: Nhi, "NHI1", "improper offboarding";
    SecretLeakage: Nhi, "NHI2", "secret leakage";
    InsecureAuthentication: Nhi, "NHI4", "insecure authentication";
    Overprivileged: Nhi, "NHI5", "overprivileged identities";
    LongLived: Nhi, "NHI7", "long-lived secrets";
    Isolation: Nhi, "NHI8", "environment isolation";
}
