//! The pages where people sign in: plain forms, one step a page, the state in the authorization request's row. Each ends in the same
//! decision as the API does (`flows::authenticate`).

mod check;
#[cfg(test)]
mod check_tests;
mod choose_organization;
mod confirm_sign_in;
mod device;
mod http;
mod impersonate;
mod invite;
mod limits;
mod mfa;
mod passkey;
mod password_reset;
mod sign_in;
mod sign_up;
#[cfg(test)]
mod tests;
pub mod view;
mod wait;
mod weak_password;

pub use weak_password::WeakPassword;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().pages(http::routes())
}
