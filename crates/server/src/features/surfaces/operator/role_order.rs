use gatewright_db::DbError;

use super::OperatorError;
use crate::features::records::roles;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

/// A role of the environment as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFact {
    pub slug: String,
    pub name: String,
    /// `organization`, or the type of the resources on which it is held.
    pub resource_type_slug: String,
    /// Whether members have it for whom no role is named.
    pub is_default: bool,
}

/// The environment's roles, the highest first.
pub async fn list_roles(cx: &Cx, environment: &EnvironmentId) -> Result<Vec<RoleFact>, DbError> {
    let environment = environment.clone();
    let found = cx.db().scan(move |tx| Ok::<_, DbError>((roles::list(tx, &environment, None)?, roles::default_slug(tx, &environment)?)));
    let (roles, default) = found.await?;
    let fact = |role: roles::Role| RoleFact {
        is_default: role.slug == default,
        slug: role.slug,
        name: role.name,
        resource_type_slug: role.resource_type_slug,
    };
    Ok(roles.into_iter().map(fact).collect())
}

/// Puts the environment's roles `slugs` in front, in this order: the first that a member has is the `role` of the token.
pub async fn order_roles(cx: &Cx, environment: &EnvironmentId, slugs: &[String]) -> Result<(), OperatorError> {
    let (environment, slugs, scribe) = (environment.clone(), slugs.to_vec(), cx.scribe(Actor::Operator));
    let ordered = cx.db().write(move |tx| roles::order(tx, &environment, &slugs, &scribe)).await?;
    ordered.map_err(|slug| no_role(&slug))
}

/// Makes the role `slug` the one that members have for whom none is named.
pub async fn set_default_role(cx: &Cx, environment: &EnvironmentId, slug: &str) -> Result<(), OperatorError> {
    let (environment, wanted, scribe) = (environment.clone(), slug.to_owned(), cx.scribe(Actor::Operator));
    let marked = cx.db().write(move |tx| roles::mark_default(tx, &environment, &wanted, &scribe)).await?;
    if marked { Ok(()) } else { Err(no_role(slug)) }
}

fn no_role(slug: &str) -> OperatorError {
    OperatorError::refused(
        format!("{slug:?} is no role that the environment has for members"),
        "environments roles list shows them; a role of one organization or of a resource type is none",
    )
}
