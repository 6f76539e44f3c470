//! How often one address may be tried at authenticate (contract 1.7), and who is counted apart from strangers (attack row 42).

use std::net::IpAddr;
use std::time::Duration;

use super::http::AuthenticateRequest;
use super::proofs::Device;
use crate::features::credentials::devices;
use crate::features::records::users::EmailAddress;
use crate::platform::cx::{Cx, EnvironmentId};
use crate::platform::rate_limit::{Limit, count};
use crate::web::client::network_of;
use crate::web::error::ApiError;

const MINUTE: Duration = Duration::from_secs(60);

/// Ten tries a minute for one address, by default.
pub async fn count_authenticate(cx: &Cx, environment: &EnvironmentId, subject: &str) -> Result<(), ApiError> {
    let limit = Limit { name: "authenticate", tries: cx.config().limits.authenticate_per_email, window: MINUTE };
    count(cx, limit, &format!("{environment}/{subject}")).await??;
    Ok(())
}

/// Tries of a password from everywhere for one address, in an hour. The pages count in the same place.
pub fn everywhere(cx: &Cx) -> Limit {
    Limit { name: "hosted_email", tries: cx.config().limits.hosted_per_email, window: Duration::from_secs(3_600) }
}

/// Where a person sits, as a backend says. Only of a confidential client: anybody else would name another place each time.
#[derive(Clone, Debug, Default)]
pub struct Place {
    network: Option<String>,
    device_id: Option<String>,
}

impl Place {
    pub fn of(confidential: bool, body: &AuthenticateRequest) -> Self {
        if !confidential {
            return Self::default();
        }
        let address = body.ip_address.as_deref().and_then(|text| text.trim().parse::<IpAddr>().ok());
        Self { network: address.map(network_of), device_id: body.device_id.clone().filter(|id| !id.is_empty()) }
    }

    /// What second factors are told of it.
    pub fn device(&self) -> Device {
        self.device_id.clone().map_or(Device::Unknown, Device::Named)
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    Password,
    /// Not counted with passwords, nor from everywhere: strangers who use those up would keep the owner from the code that gives the
    /// tries back (attack row 42). A code has few tries of its own, and the mails to an address are few.
    Code,
}

/// One try of a proof for `email`. Gives the hash of the device if its owner has signed in from it; such a device has a counter of its
/// own, and so has the address in each network. Without a place all tries of an address share one counter, as upstream.
pub async fn count_try(
    cx: &Cx,
    environment: &EnvironmentId,
    email: &EmailAddress,
    place: &Place,
    tried: Tried,
) -> Result<Option<String>, ApiError> {
    let tries = cx.config().limits.authenticate_per_email;
    if let Some(id) = &place.device_id
        && let Some(device) = devices::find_known(cx, environment, email, id).await?
    {
        let own = Limit { name: "authenticate_device", tries, window: MINUTE };
        count(cx, own, &format!("{environment}/{}/{device}", email.key())).await??;
        return Ok(Some(device));
    }
    let Some(network) = &place.network else {
        count_authenticate(cx, environment, email.key()).await?;
        return Ok(None);
    };
    let from_there = Limit { name: "authenticate_network", tries: cx.config().limits.hosted_per_ip, window: MINUTE };
    count(cx, from_there, &format!("{environment}/{network}")).await??;
    let name = match tried {
        Tried::Password => "authenticate_email_ip",
        Tried::Code => "authenticate_code_ip",
    };
    count(cx, Limit { name, tries, window: MINUTE }, &format!("{environment}/{}/{network}", email.key())).await??;
    if tried == Tried::Password {
        count(cx, everywhere(cx), &format!("{environment}/{}", email.key())).await??;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_42_only_a_backend_says_where_somebody_sits_and_spellings_of_one_network_are_one() {
        let body = |ip: &str| AuthenticateRequest {
            ip_address: Some(ip.to_owned()),
            device_id: Some("phone".to_owned()),
            ..AuthenticateRequest::default()
        };
        let network = |ip: &str| Place::of(true, &body(ip)).network;
        assert_eq!(network("2001:db8::1"), network(" 2001:0DB8:0:0:ffff::9 "));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        for nonsense in ["", "192.0.2.1:80", "192.0.2.1, 192.0.2.2", "fe80::1%eth0", "localhost"] {
            assert_eq!(network(nonsense), None, "{nonsense}");
        }
        let public = Place::of(false, &body("192.0.2.1"));
        assert!(public.network.is_none() && public.device_id.is_none());
    }
}
