//! Users, organizations and keys of the drill's own, under names that nobody can guess, and their removal.
//!
//! Each is written down before it is made: should the answer get lost, it is found by its name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewright_base::{Rng, Secret};
use gatewright_jose::SystemRng;
use serde_json::{Value, json};
use ureq::http::Method;

use super::server::{Server, SignedIn, encode};

/// How often a removal is tried.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// What was made, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    User { email: String },
    Organization { external_id: String },
}

pub struct Throwaway {
    server: Arc<Server>,
    things: Mutex<Vec<Thing>>,
}

pub struct Person {
    pub id: String,
    email: String,
    password: Secret<String>,
}

pub struct Organization {
    pub id: String,
}

pub struct ApiKey {
    pub id: String,
    pub value: Secret<String>,
}

impl Throwaway {
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, things: Mutex::default() }
    }

    pub fn person(&self) -> Result<Person, String> {
        // `.invalid` is nobody's domain (RFC 2606), so no mail can reach anybody.
        let email = format!("drill-{}@gatewright-drill.invalid", random_name());
        let password = Secret::new(format!("{}-{}", random_name(), random_name()));
        self.note(Thing::User { email: email.clone() });
        let body = json!({"email": email, "password": password.reveal(), "email_verified": true, "first_name": "Drill"});
        let made = self.server.good(&Method::POST, "/user_management/users", Some(&body))?;
        Ok(Person { id: id_of(&made)?, email, password })
    }

    pub fn sign_in(&self, person: &Person) -> Result<SignedIn, String> {
        self.server.sign_in(&person.email, &person.password)
    }

    /// A person nobody knew before, signed in.
    pub fn signed_in(&self) -> Result<(Person, SignedIn), String> {
        let person = self.person()?;
        let session = self.sign_in(&person)?;
        Ok((person, session))
    }

    pub fn organization(&self) -> Result<Organization, String> {
        let external_id = format!("drill-{}", random_name());
        self.note(Thing::Organization { external_id: external_id.clone() });
        let body = json!({"name": format!("Drill {}", &external_id[6..14]), "external_id": external_id});
        let made = self.server.good(&Method::POST, "/organizations", Some(&body))?;
        Ok(Organization { id: id_of(&made)? })
    }

    /// Makes the person a member; gives the id of the membership.
    pub fn join(&self, person: &Person, organization: &Organization) -> Result<String, String> {
        let body = json!({"user_id": person.id, "organization_id": organization.id});
        id_of(&self.server.good(&Method::POST, "/user_management/organization_memberships", Some(&body))?)
    }

    /// It goes with its organization.
    pub fn api_key(&self, organization: &Organization, permissions: &[String]) -> Result<ApiKey, String> {
        let body = json!({"name": "drill", "permissions": permissions});
        let path = format!("/organizations/{}/api_keys", encode(&organization.id));
        let made = self.server.good(&Method::POST, &path, Some(&body))?;
        let value = made["value"].as_str().ok_or("the server made an API key and did not say which")?;
        Ok(ApiKey { id: id_of(&made)?, value: Secret::new(value.to_owned()) })
    }

    /// Removes everything; what could not be is named.
    pub fn remove_all(&self) -> Vec<String> {
        let things = std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner));
        // The last made first: memberships before organizations would be needless work, since either end takes them along.
        things.iter().rev().filter_map(|thing| self.remove_for_sure(thing).err()).collect()
    }

    fn note(&self, thing: Thing) {
        self.things.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }

    fn remove_for_sure(&self, thing: &Thing) -> Result<(), String> {
        for left in (0..TRIES).rev() {
            match self.remove(thing) {
                Ok(()) => return Ok(()),
                Err(why) if left == 0 => return Err(why),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        Ok(())
    }

    fn remove(&self, thing: &Thing) -> Result<(), String> {
        let (name, look_up, folder) = match thing {
            Thing::User { email } => (email, format!("/user_management/users?email={}", encode(email)), "/user_management/users"),
            Thing::Organization { external_id } => {
                (external_id, format!("/organizations/external_id/{}", encode(external_id)), "/organizations")
            }
        };
        let answer = self.server.call(&Method::GET, &look_up, None)?;
        let body = answer.json();
        let id = match answer.status {
            404 => None,
            _ if answer.is_good() => find_id(thing, &body).map_err(|()| format!("{name}: asked for it, the server names others"))?,
            status => return Err(format!("{name}: it answered {status}")),
        };
        let Some(id) = id else { return Ok(()) };
        let answer = self.server.call(&Method::DELETE, &format!("{folder}/{}", encode(id)), None)?;
        if answer.is_good() || answer.status == 404 { Ok(()) } else { Err(format!("{id}: its deletion answered {}", answer.status)) }
    }
}

/// The id of `thing` in what the server answered to its name; none where there is nothing of that name. Errs where others are named,
/// as by a server that does not know the filter, or behind a proxy that drops it: nobody else's user is to be deleted.
fn find_id<'a>(thing: &Thing, answer: &'a Value) -> Result<Option<&'a str>, ()> {
    let (named, key, name): (&[Value], &str, &str) = match thing {
        Thing::User { email } => (answer["data"].as_array().ok_or(())?.as_slice(), "email", email.as_str()),
        Thing::Organization { external_id } => (std::slice::from_ref(answer), "external_id", external_id.as_str()),
    };
    match named.iter().find(|one| one[key] == name) {
        Some(found) => found["id"].as_str().map(Some).ok_or(()),
        None if named.is_empty() => Ok(None),
        None => Err(()),
    }
}

/// The end of a drill that went wrong leaves as little as one that went well.
impl Drop for Throwaway {
    fn drop(&mut self) {
        for left in self.remove_all() {
            tracing::error!("left behind: {left}");
        }
    }
}

/// 128 bits.
fn random_name() -> String {
    let rng: &dyn Rng = &SystemRng;
    rng.array::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_of(made: &Value) -> Result<String, String> {
    made["id"].as_str().map(str::to_owned).ok_or_else(|| "the server made something and did not say which".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_removed_but_what_has_the_name() {
        let user = Thing::User { email: "drill-1@gatewright-drill.invalid".to_owned() };
        let one = |email: &str| json!({"id": "user_1", "email": email});
        let other = json!({"id": "user_2", "email": "ceo@example.com"});
        for (answer, id) in [
            (json!({"data": [one("drill-1@gatewright-drill.invalid")]}), Ok(Some("user_1"))),
            (json!({"data": [other.clone(), one("drill-1@gatewright-drill.invalid")]}), Ok(Some("user_1"))),
            (json!({"data": []}), Ok(None)),
            (json!(null), Err(())),
            (json!({"data": [other]}), Err(())),
            (json!({"data": [one("drill-2@gatewright-drill.invalid")]}), Err(())),
            (json!({"data": [{"email": "drill-1@gatewright-drill.invalid"}]}), Err(())),
        ] {
            assert_eq!(find_id(&user, &answer), id, "{answer}");
        }
        let organization = Thing::Organization { external_id: "drill-1".to_owned() };
        for (answer, id) in [
            (json!({"id": "org_1", "external_id": "drill-1"}), Ok(Some("org_1"))),
            (json!({"id": "org_2", "external_id": "drill-2"}), Err(())),
            (json!({"id": "org_2", "external_id": null}), Err(())),
            (json!({"id": "org_2"}), Err(())),
        ] {
            assert_eq!(find_id(&organization, &answer), id, "{answer}");
        }
    }

    #[test]
    fn names_cannot_be_guessed() {
        let (one, other) = (random_name(), random_name());
        assert!(one.len() == 32 && one != other && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
