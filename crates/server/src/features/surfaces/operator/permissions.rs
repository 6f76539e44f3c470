use super::OperatorError;
use crate::features::records::permissions::{self, check_description, check_name, check_permission_slug};
use crate::features::records::roles;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

/// A permission to begin with, and the environment roles that grant it.
#[derive(Clone, Debug, Default)]
pub struct NewPermission {
    pub slug: String,
    pub name: String,
    pub description: Option<String>,
    /// Slugs.
    pub roles: Vec<String>,
}

/// Makes the permission and gives it to its roles, all or nothing. `false` if there is one of its slug, and then nothing changes.
pub async fn plant_permission(cx: &Cx, environment: &EnvironmentId, new: &NewPermission) -> Result<bool, OperatorError> {
    let NewPermission { slug, name, description, roles } = new.clone();
    let refused = |remedy: String| OperatorError::refused(format!("the permission {:?} cannot be made", new.slug), remedy);
    check_permission_slug(&slug)
        .and_then(|()| check_name(&name))
        .and_then(|()| description.as_deref().map_or(Ok(()), check_description))
        .map_err(|error| refused(format!("its {} {}", error.field, error.code.replace('_', " "))))?;
    let row =
        permissions::NewPermission { slug, name, description, resource_type_slug: permissions::ORGANIZATION.to_owned(), system: false };
    let (environment, scribe) = (environment.clone(), cx.scribe(Actor::Operator));
    let planted = cx.db().write(move |tx| {
        let Some(permission) = permissions::insert(tx, &environment, &row, &scribe)? else { return Ok(false) };
        for slug in &roles {
            let role = roles::lock(tx, &environment, None, slug)?.filter(|role| role.is_for_members()).ok_or_else(|| {
                OperatorError::refused(format!("there is no role {slug:?}"), "admin and member are there from the beginning")
            })?;
            roles::add_permission(tx, &environment, role, &permission, &scribe)?;
        }
        Ok(true)
    });
    planted.await
}
