use gatewright_db::{DbError, Tx};

use super::OperatorError;
use crate::features::records::feature_flags::{self, NewFlag, Target};
use crate::features::records::organizations;
use crate::features::records::users::{self, EmailAddress};
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

/// A feature flag to begin with, and whom it is on for.
#[derive(Clone, Debug, Default)]
pub struct NewFeatureFlag {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
    pub default_value: bool,
    /// E-mail addresses of users.
    pub users: Vec<String>,
    /// External ids of organizations.
    pub organizations: Vec<String>,
}

/// Makes the flag with its targets, all or nothing. `false` if there is one of its slug, and then nothing changes.
pub async fn plant_feature_flag(cx: &Cx, environment: &EnvironmentId, flag: &NewFeatureFlag) -> Result<bool, OperatorError> {
    let new = NewFlag {
        slug: flag.slug.clone(),
        name: flag.name.clone(),
        description: flag.description.clone(),
        enabled: flag.enabled,
        default_value: flag.default_value,
        ..NewFlag::default()
    };
    new.check().map_err(|error| {
        OperatorError::refused(
            format!("the feature flag {:?} cannot be made", flag.slug),
            format!("its {} {}", error.field, error.code.replace('_', " ")),
        )
    })?;
    let (environment, flag, scribe) = (environment.clone(), flag.clone(), cx.scribe(Actor::Operator));
    let planted = cx.db().write(move |tx| {
        if feature_flags::find(tx, &environment, &flag.slug)?.is_some() {
            return Ok(false);
        }
        let targets = load_targets(tx, &environment, &flag)?;
        if let Err(refusal) = feature_flags::insert(tx, &environment, new.clone(), &scribe)? {
            return Err(unmade(&flag, &refusal));
        }
        for target in &targets {
            if let Err(refusal) = feature_flags::insert_target(tx, &environment, &flag.slug, target, &scribe)? {
                return Err(unmade(&flag, &refusal));
            }
        }
        Ok(true)
    });
    planted.await
}

fn load_targets(tx: &mut Tx<'_>, environment: &EnvironmentId, flag: &NewFeatureFlag) -> Result<Vec<Target>, OperatorError> {
    let nobody = |what: &str, which: &str, remedy: &str| {
        OperatorError::refused(format!("the feature flag {:?} names {what} {which:?}, who is not there", flag.slug), remedy)
    };
    let mut targets = Vec::new();
    for email in &flag.users {
        let found = match EmailAddress::parse(email) {
            Some(address) => users::find_by_email(tx, environment, &address)?,
            None => None,
        };
        let user = found.ok_or_else(|| nobody("the user", email, "give the e-mail address of a user"))?;
        targets.push(Target::User(user.id));
    }
    for external_id in &flag.organizations {
        let found = organizations::find_by_external_id(tx, environment, external_id)?;
        let organization = found.ok_or_else(|| nobody("the organization", external_id, "give the external_id of an organization"))?;
        targets.push(Target::Organization(organization.id));
    }
    Ok(targets)
}

fn unmade(flag: &NewFeatureFlag, refusal: &feature_flags::Refusal) -> OperatorError {
    use feature_flags::Refusal;
    let remedy = match refusal {
        Refusal::SlugTaken => "there is one of its slug".to_owned(),
        Refusal::TooManyFlags => format!("delete others: an environment has at most {}", feature_flags::MAX_FLAGS),
        Refusal::TooManyTargets => format!("give fewer targets: a flag has at most {}", feature_flags::MAX_TARGETS),
        Refusal::NoFlag | Refusal::NoTarget => return DbError::NoRow.into(),
    };
    OperatorError::refused(format!("the feature flag {:?} was not made", flag.slug), remedy)
}
