//! The ways to prove who one is. What each is called differs by place upstream; the names live here together.

mod model;

pub use model::{Method, SecondFactor, authentication_methods};
