//! The operations on invitations (upstream tag `user-management.invitations`). They stand here and not beside the credential because
//! accepting one makes a member.

mod http;
mod locale;
#[cfg(test)]
mod tests;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
