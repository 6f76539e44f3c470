use super::OperatorError;
use crate::features::records::resources;
use crate::platform::actor::Actor;
use crate::platform::cx::{Cx, EnvironmentId};

pub use crate::features::records::resources::NewResourceType;

/// Makes the resource type. `false` if there is one of its slug, and then nothing changes. What it stands below must be there.
pub async fn plant_resource_type(cx: &Cx, environment: &EnvironmentId, new: &NewResourceType) -> Result<bool, OperatorError> {
    let refused = |remedy: String| OperatorError::refused(format!("the resource type {:?} cannot be made", new.slug), remedy);
    new.check().map_err(|(field, code)| refused(format!("its {field} {}", code.replace('_', " "))))?;
    let (environment, wanted, scribe) = (environment.clone(), new.clone(), cx.scribe(Actor::Operator));
    match cx.db().write(move |tx| resources::insert_type(tx, &environment, &wanted, &scribe)).await? {
        Ok(_) => Ok(true),
        Err(resources::TypeRefusal::Exists(_)) => Ok(false),
        Err(refusal @ resources::TypeRefusal::NoParent(_)) => Err(refused(format!("{refusal}: name that one before"))),
    }
}
