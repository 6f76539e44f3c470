//! `/account`: where a signed-in person sees how they sign in and where they are signed in, and changes it. Plain forms, one change a
//! page. Whoever changes something has proved who they are within the last minutes ([`visitor`]).

mod email;
mod factors;
mod http;
mod model;
mod overview;
mod passkeys;
mod password;
mod sessions;
#[cfg(test)]
mod tests;
pub mod view;
mod visitor;

pub use model::RECENT;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().pages(http::routes())
}
