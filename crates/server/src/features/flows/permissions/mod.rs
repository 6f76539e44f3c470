//! The operations on permissions (upstream tag `permissions`). They stand here and not beside the record because a permission names a
//! resource type, and deleting one takes it from the roles that hold it.

mod http;
#[cfg(test)]
mod tests;

use crate::features::Feature;

pub fn feature() -> Feature {
    Feature::default().api(http::routes())
}
