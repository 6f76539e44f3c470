//! The record of a person in an environment: what the upstream object `user` holds. Operations on it are in `flows::users`,
//! because one of them may also touch passwords, sessions and mails.

mod model;
mod store;

pub use model::{
    EmailAddress, Metadata, MetadataPatch, NewUser, User, UserChange, UserId, UserView, check_description, check_external_id,
    check_metadata, check_name, merge_metadata,
};
pub use store::{delete, find, find_by_email, find_by_external_id, insert, list, lock, mark_email_verified, mark_signed_in, update};
