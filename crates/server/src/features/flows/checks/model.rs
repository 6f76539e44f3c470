use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::features::records::organization_memberships::Status;

/// A resource on the way from the one asked about up to the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub resource_type_slug: String,
    pub external_id: String,
}

/// What matters of a role: which permissions it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFacts {
    pub slug: String,
    pub permissions: BTreeSet<String>,
}

/// How a membership comes to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Through {
    /// A role of the membership itself, on the organization.
    Membership,
    Assignment {
        id: String,
    },
    Group {
        group_id: String,
        assignment_id: String,
    },
}

/// A role that a membership holds on one of the levels, counted from the resource itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub level: usize,
    pub role: Arc<RoleFacts>,
    pub through: Through,
}

/// All that a decision looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub status: Status,
    /// The resource, then what stands above it, the organization last.
    pub lineage: Vec<Level>,
    pub holdings: Vec<Holding>,
}

/// A permission and the type of resources it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub permission_slug: &'a str,
    pub resource_type_slug: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// By the holding nearest to the resource.
    Allowed(&'a Holding),
    Denied(Miss<'a>),
}

/// What came nearest to allowing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss<'a> {
    /// Only an active membership may anything.
    Status,
    /// The permission is for resources of another type.
    Type,
    /// No role on the resource or above it.
    NoRole,
    /// Of the roles held, this one is nearest to the resource, and it does not hold the permission.
    Role(&'a Holding),
}

impl Decision<'_> {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// Whether the membership has the permission on the resource. Nothing else decides that: every check, list and explanation ends here.
pub fn decide<'a>(facts: &'a Facts, asked: Asked<'_>) -> Decision<'a> {
    if facts.status != Status::Active {
        return Decision::Denied(Miss::Status);
    }
    if facts.lineage.first().is_none_or(|resource| resource.resource_type_slug != asked.resource_type_slug) {
        return Decision::Denied(Miss::Type);
    }
    let held = || facts.holdings.iter().filter(|holding| holding.level < facts.lineage.len());
    let granting = held().filter(|holding| holding.role.permissions.contains(asked.permission_slug)).min_by_key(|holding| holding.level);
    match (granting, held().min_by_key(|holding| holding.level)) {
        (Some(holding), _) => Decision::Allowed(holding),
        (None, Some(nearest)) => Decision::Denied(Miss::Role(nearest)),
        (None, None) => Decision::Denied(Miss::NoRole),
    }
}

impl Facts {
    /// Every permission that a role held here names. Which of them count on this resource is for [`decide`] to say.
    pub fn list_named_permissions(&self) -> Vec<String> {
        let named: BTreeSet<&String> = self.holdings.iter().flat_map(|holding| &holding.role.permissions).collect();
        named.into_iter().cloned().collect()
    }

    /// The facts for a child on which nothing is held directly.
    pub fn of_child(&self, resource_type_slug: &str) -> Self {
        let mut lineage = vec![Level { resource_type_slug: resource_type_slug.to_owned(), external_id: String::new() }];
        lineage.extend(self.lineage.iter().cloned());
        let holdings = self.holdings.iter().cloned().map(|holding| Holding { level: holding.level + 1, ..holding }).collect();
        Self { status: self.status, lineage, holdings }
    }
}

/// The decision as a sentence for an administrator.
pub fn render_explanation(facts: &Facts, asked: Asked<'_>, decision: &Decision<'_>) -> String {
    let permission = asked.permission_slug;
    match decision {
        Decision::Allowed(holding) => {
            let mut text = format!("Allowed because {}, and that role holds '{permission}'", render_holding(facts, holding));
            if holding.level > 0 {
                let _ = write!(text, ": it counts for all below, so for {}", render_level(facts, 0));
            }
            text + "."
        }
        Decision::Denied(Miss::Status) => format!("Denied: the membership is {}, not active.", facts.status.as_str()),
        Decision::Denied(Miss::Type) => format!(
            "Denied: '{permission}' is for resources of type '{}', and this is {}.",
            asked.resource_type_slug,
            render_level(facts, 0)
        ),
        Decision::Denied(Miss::NoRole) => {
            format!("Denied: the membership has no role on {} or above it.", render_level(facts, 0))
        }
        Decision::Denied(Miss::Role(holding)) => {
            format!("Denied: nearest miss is that {}, and that role does not hold '{permission}'.", render_holding(facts, holding))
        }
    }
}

fn render_holding(facts: &Facts, holding: &Holding) -> String {
    let (slug, level) = (&holding.role.slug, render_level(facts, holding.level));
    match &holding.through {
        Through::Membership => format!("'{slug}' is a role of the membership in {level}"),
        Through::Assignment { id } => format!("the role '{slug}' on {level} was assigned to the membership ({id})"),
        Through::Group { group_id, assignment_id } => {
            format!("the role '{slug}' on {level} was assigned to its group {group_id} ({assignment_id})")
        }
    }
}

fn render_level(facts: &Facts, level: usize) -> String {
    facts.lineage.get(level).map(|level| format!("{} '{}'", level.resource_type_slug, level.external_id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: Asked<'_> = Asked { permission_slug: "doc:view", resource_type_slug: "doc" };

    fn facts(status: Status, holdings: &[(usize, &str, &[&str])]) -> Facts {
        let level = |slug: &str, id: &str| Level { resource_type_slug: slug.to_owned(), external_id: id.to_owned() };
        let holding = |(level, slug, permissions): &(usize, &str, &[&str])| Holding {
            level: *level,
            role: Arc::new(RoleFacts { slug: (*slug).to_owned(), permissions: permissions.iter().map(|&p| p.to_owned()).collect() }),
            through: Through::Assignment { id: format!("role_assignment_{level}") },
        };
        Facts {
            status,
            lineage: vec![level("doc", "d"), level("folder", "f"), level("organization", "o")],
            holdings: holdings.iter().map(holding).collect(),
        }
    }

    #[test]
    fn a_role_counts_where_it_is_held_and_below() {
        use Status::*;
        for (status, holdings, allowed_at) in [
            (Active, &[][..], None),
            (Active, &[(0, "viewer", &["doc:view"][..])], Some(0)),
            (Active, &[(1, "viewer", &["doc:view"])], Some(1)),
            (Active, &[(2, "viewer", &["doc:view"])], Some(2)),
            (Active, &[(2, "a", &["doc:view"]), (1, "b", &["doc:view"])], Some(1)),
            (Active, &[(0, "lister", &["doc:list"]), (2, "a", &["doc:view"])], Some(2)),
            (Active, &[(0, "lister", &["doc:list"])], None),
            // A level that is none of this resource's.
            (Active, &[(3, "viewer", &["doc:view"])], None),
            (Inactive, &[(0, "viewer", &["doc:view"])], None),
            (Pending, &[(0, "viewer", &["doc:view"])], None),
        ] {
            let facts = facts(status, holdings);
            let level = match decide(&facts, VIEW) {
                Decision::Allowed(holding) => Some(holding.level),
                Decision::Denied(_) => None,
            };
            assert_eq!(level, allowed_at, "{status:?} {holdings:?}");
        }
    }

    #[test]
    fn a_permission_counts_on_resources_of_its_own_type_only() {
        let facts = facts(Status::Active, &[(0, "viewer", &["doc:view", "folder:view"])]);
        let asked = Asked { permission_slug: "folder:view", resource_type_slug: "folder" };
        assert_eq!(decide(&facts, asked), Decision::Denied(Miss::Type));
        let nothing = Facts { lineage: vec![], ..facts };
        assert_eq!(decide(&nothing, VIEW), Decision::Denied(Miss::Type));
    }

    #[test]
    fn an_explanation_names_what_counted_or_what_came_nearest() {
        let text = |status, holdings: &[(usize, &str, &[&str])], asked| {
            let facts = facts(status, holdings);
            render_explanation(&facts, asked, &decide(&facts, asked))
        };
        assert_eq!(
            text(Status::Active, &[(1, "viewer", &["doc:view"])], VIEW),
            "Allowed because the role 'viewer' on folder 'f' was assigned to the membership (role_assignment_1), and that role holds \
             'doc:view': it counts for all below, so for doc 'd'."
        );
        assert_eq!(
            text(Status::Active, &[(2, "member", &[]), (1, "lister", &["doc:list"])], VIEW),
            "Denied: nearest miss is that the role 'lister' on folder 'f' was assigned to the membership (role_assignment_1), and that \
             role does not hold 'doc:view'."
        );
        assert_eq!(text(Status::Active, &[], VIEW), "Denied: the membership has no role on doc 'd' or above it.");
        assert_eq!(text(Status::Inactive, &[(0, "viewer", &["doc:view"])], VIEW), "Denied: the membership is inactive, not active.");
        let other = Asked { permission_slug: "folder:view", resource_type_slug: "folder" };
        assert_eq!(text(Status::Active, &[], other), "Denied: 'folder:view' is for resources of type 'folder', and this is doc 'd'.");
    }
}
