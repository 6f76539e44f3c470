//! The record of a person in an environment: what the upstream object `user` holds. Operations on it are in `flows::users`,
//! because one of them may also touch passwords, sessions and mails.

mod model;
pub mod store;

pub use model::{
    EmailAddress, FieldError, Metadata, MetadataPatch, NewUser, User, UserChange, UserId, UserView, check_external_id, check_metadata, check_name,
};
