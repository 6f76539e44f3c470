use crate::features::records::organization_memberships::Membership;
use crate::features::records::roles::ADMIN;

/// The most roles that one membership takes.
pub const MOST_ROLES: usize = 50;

/// Roles of a request that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleProblem {
    /// `role_slug` and `role_slugs` exclude each other.
    Both,
    /// A membership always has a role: an empty list says neither which nor that the default is meant.
    Empty,
    TooMany,
    /// Several, in an environment that allows one.
    MultipleNotEnabled,
}

/// The roles a request asks for, each once, in its order; `None` when it names none.
pub fn decide_roles(
    role_slug: Option<String>,
    role_slugs: Option<Vec<String>>,
    multiple_roles: bool,
) -> Result<Option<Vec<String>>, RoleProblem> {
    let given = match (role_slug, role_slugs) {
        (Some(_), Some(_)) => return Err(RoleProblem::Both),
        (Some(slug), None) => vec![slug],
        (None, Some(slugs)) => slugs,
        (None, None) => return Ok(None),
    };
    if given.len() > MOST_ROLES {
        return Err(RoleProblem::TooMany);
    }
    let mut slugs: Vec<String> = Vec::with_capacity(given.len());
    for slug in given {
        if !slugs.contains(&slug) {
            slugs.push(slug);
        }
    }
    match slugs.len() {
        0 => Err(RoleProblem::Empty),
        1 => Ok(Some(slugs)),
        _ if multiple_roles => Ok(Some(slugs)),
        _ => Err(RoleProblem::MultipleNotEnabled),
    }
}

/// What is about to become of a membership.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a> {
    Deleted,
    Deactivated,
    Roles(&'a [String]),
}

/// Whether the organization would be left with members and without an active admin, having one now. Nobody in it could then invite,
/// promote or remove anybody. `active_admins` counts this membership, too; `has_others`: there is another membership of any status.
///
/// Who is alone may leave: an organization without members locks nobody out. An organization that never had an admin, because the app
/// names its roles otherwise, is never held up.
pub fn leaves_no_admin(membership: &Membership, loss: Loss<'_>, active_admins: i64, has_others: bool) -> bool {
    if !membership.is_active_admin() || active_admins > 1 {
        return false;
    }
    match loss {
        Loss::Deleted => has_others,
        Loss::Deactivated => true,
        Loss::Roles(slugs) => !slugs.iter().any(|slug| slug == ADMIN),
    }
}

/// `slugs` by the priority in `ranked`; one that is not there comes last and is kept.
pub fn by_priority(ranked: &[String], slugs: &[String]) -> Vec<String> {
    let known = ranked.iter().filter(|slug| slugs.contains(slug));
    known.chain(slugs.iter().filter(|slug| !ranked.contains(slug))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::records::organization_memberships::{MembershipId, NewMembership, Status};
    use crate::features::records::organizations::OrganizationId;
    use crate::features::records::users::UserId;

    fn owned(slugs: &[&str]) -> Vec<String> {
        slugs.iter().map(|slug| (*slug).to_owned()).collect()
    }

    fn membership(status: Status, roles: &[&str]) -> Membership {
        let new = NewMembership::new(UserId::from_text("user_1"), OrganizationId::from_text("org_1"), owned(roles), status);
        Membership::new(MembershipId::from_text("om_1"), new, gatewright_base::Timestamp::from_millis(0))
    }

    #[test]
    fn roles_of_a_request_go_together_or_are_told_apart() {
        use RoleProblem::*;
        let fifty: Vec<String> = (0..51).map(|n| format!("role-{n}")).collect();
        for (slug, slugs, multiple, expected) in [
            (None, None, true, Ok(None)),
            (Some("admin"), None, false, Ok(Some(owned(&["admin"])))),
            (None, Some(owned(&["admin"])), false, Ok(Some(owned(&["admin"])))),
            (None, Some(owned(&["admin", "admin"])), false, Ok(Some(owned(&["admin"])))),
            (None, Some(owned(&["b", "a", "b"])), true, Ok(Some(owned(&["b", "a"])))),
            (None, Some(owned(&["b", "a"])), false, Err(MultipleNotEnabled)),
            (None, Some(Vec::new()), true, Err(Empty)),
            (Some("admin"), Some(owned(&["admin"])), true, Err(Both)),
            (None, Some(fifty[..50].to_vec()), true, Ok(Some(fifty[..50].to_vec()))),
            (None, Some(fifty.clone()), true, Err(TooMany)),
        ] {
            assert_eq!(decide_roles(slug.map(str::to_owned), slugs.clone(), multiple), expected, "{slug:?} {slugs:?} {multiple}");
        }
    }

    #[test]
    fn members_are_never_left_without_the_last_active_admin() {
        let (member, both) = (owned(&["member"]), owned(&["member", "admin"]));
        let admin = membership(Status::Active, &["admin"]);
        for (loss, active_admins, has_others, expected) in [
            (Loss::Deleted, 1, true, true),
            (Loss::Deleted, 1, false, false),
            (Loss::Deleted, 2, true, false),
            (Loss::Deactivated, 1, true, true),
            (Loss::Deactivated, 1, false, true),
            (Loss::Deactivated, 2, true, false),
            (Loss::Roles(&member), 1, false, true),
            (Loss::Roles(&member), 1, true, true),
            (Loss::Roles(&member), 2, true, false),
            (Loss::Roles(&both), 1, true, false),
        ] {
            assert_eq!(leaves_no_admin(&admin, loss, active_admins, has_others), expected, "{loss:?} {active_admins} {has_others}");
        }
        // Who is no active admin takes none away, whatever is counted.
        for other in
            [membership(Status::Active, &["member"]), membership(Status::Inactive, &["admin"]), membership(Status::Pending, &["admin"])]
        {
            for loss in [Loss::Deleted, Loss::Deactivated, Loss::Roles(&member)] {
                assert!(!leaves_no_admin(&other, loss, 1, true) && !leaves_no_admin(&other, loss, 0, true), "{other:?} {loss:?}");
            }
        }
    }

    #[test]
    fn roles_are_shown_by_priority_and_none_is_lost() {
        for (ranked, slugs, expected) in [
            (vec!["admin", "member"], vec!["member", "admin"], vec!["admin", "member"]),
            (vec!["admin"], vec!["gone", "admin"], vec!["admin", "gone"]),
            (vec![], vec!["gone"], vec!["gone"]),
            (vec!["admin", "member"], vec!["member"], vec!["member"]),
        ] {
            assert_eq!(by_priority(&owned(&ranked), &owned(&slugs)), owned(&expected));
        }
    }
}
