use std::time::Duration;

use gatewright_base::Timestamp;

use crate::features::credentials::methods::{Method, SecondFactor};
use crate::features::records::users::UserId;
use crate::platform::cx::EnvironmentId;

/// RFC 8628 §3.2: five minutes, asked at most every five seconds.
pub const LIFETIME: Duration = Duration::from_secs(300);
pub const INTERVAL_SECONDS: i64 = 5;

/// A device's request for a sign-in.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    pub hash: String,
    pub user_code: String,
    pub environment: EnvironmentId,
    pub client_id: String,
    pub state: State,
    pub browser_hash: Option<String>,
    pub interval_seconds: i64,
    pub polled_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Approved(Approval),
    Denied,
    Redeemed,
}

/// What a poll is answered with (RFC 8628 §3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    Expired,
    SlowDown,
    Pending,
    Denied,
    Approved(Approval),
    Spent,
}

/// Who allowed the device, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub user_id: UserId,
    pub method: Method,
    pub second_factor: Option<SecondFactor>,
    pub authenticated_at: Timestamp,
    /// The organization that the person chose, if there was a choice.
    pub organization_id: Option<String>,
}

/// Too soon comes before the state: a device that does not wait learns nothing by it.
pub fn decide_poll(code: &DeviceCode, now: Timestamp) -> Poll {
    if now >= code.expires_at {
        return Poll::Expired;
    }
    let too_soon = code.polled_at.is_some_and(|at| now.since(at) < Duration::from_secs(code.interval_seconds.unsigned_abs()));
    match &code.state {
        _ if too_soon => Poll::SlowDown,
        State::Pending => Poll::Pending,
        State::Denied => Poll::Denied,
        State::Redeemed => Poll::Spent,
        State::Approved(approval) => Poll::Approved(approval.clone()),
    }
}

#[cfg(test)]
mod poll_tests {
    use super::*;

    fn code(state: State) -> DeviceCode {
        DeviceCode {
            hash: String::new(),
            user_code: "BCDF-GHJK".into(),
            environment: EnvironmentId::from_text("environment_1"),
            client_id: "client_1".into(),
            state,
            browser_hash: None,
            interval_seconds: 5,
            polled_at: Some(Timestamp::from_millis(0)),
            expires_at: Timestamp::from_millis(300_000),
        }
    }

    #[test]
    fn polls_follow_rfc_8628() {
        let at = Timestamp::from_millis;
        assert_eq!(decide_poll(&code(State::Pending), at(4_999)), Poll::SlowDown);
        assert_eq!(decide_poll(&code(State::Pending), at(5_000)), Poll::Pending);
        assert_eq!(decide_poll(&code(State::Denied), at(5_000)), Poll::Denied);
        assert_eq!(decide_poll(&code(State::Redeemed), at(5_000)), Poll::Spent);
        assert_eq!(decide_poll(&code(State::Pending), at(300_000)), Poll::Expired);
    }
}
