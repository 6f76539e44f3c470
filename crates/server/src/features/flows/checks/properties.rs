//! Every answer about a random organization, beside a model that looks at everything: trees, groups, roles, moves, removals.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::TestApp;

const KINDS: [&str; 3] = ["workspace", "folder", "doc"];
const ROOT: usize = usize::MAX;

/// Permissions: slug and type.
const PERMISSIONS: [(&str, &str); 5] =
    [("org:see", "organization"), ("workspace:see", "workspace"), ("folder:see", "folder"), ("doc:see", "doc"), ("doc:edit", "doc")];

/// Roles: slug, type and the permissions by index. Some hold what is for other types: it counts below.
const ROLES: [(&str, &str, &[usize]); 8] = [
    ("org-wide", "organization", &[0, 3]),
    ("org-none", "organization", &[]),
    ("workspace-reader", "workspace", &[1, 2, 3]),
    ("workspace-editor", "workspace", &[4]),
    ("folder-reader", "folder", &[2, 3]),
    ("folder-lister", "folder", &[2]),
    ("doc-reader", "doc", &[3]),
    ("doc-editor", "doc", &[3, 4]),
];

/// A random organization: numbers that [`build`] makes sense of.
#[derive(Clone, Debug)]
struct Plan {
    /// Kind and parent.
    nodes: Vec<(usize, usize)>,
    /// Whether each member is active, and whether it has the role `org-wide` by itself.
    members: Vec<(bool, bool)>,
    /// Who is in which group.
    joins: Vec<(usize, usize)>,
    /// Holder (members, then groups), role, node.
    assignments: Vec<(usize, usize, usize)>,
    moves: Vec<(usize, usize)>,
    removals: Vec<usize>,
}

const MEMBERS: usize = 4;
const GROUPS: usize = 2;

fn plans() -> impl Strategy<Value = Plan> {
    let any = 0_usize..1_000;
    (
        prop::collection::vec((any.clone(), any.clone()), 4..14),
        prop::collection::vec((prop::bool::weighted(0.8), prop::bool::weighted(0.25)), MEMBERS),
        prop::collection::vec((0..GROUPS, 0..MEMBERS), 0..5),
        prop::collection::vec((0..MEMBERS + GROUPS, any.clone(), any.clone()), 4..24),
        prop::collection::vec((any.clone(), any.clone()), 0..5),
        prop::collection::vec(any, 0..4),
    )
        .prop_map(|(nodes, members, joins, assignments, moves, removals)| Plan { nodes, members, joins, assignments, moves, removals })
}

fn may_stand(kind: usize, parent: Option<usize>) -> bool {
    matches!((kind, parent), (0, None) | (1 | 2, Some(0 | 1)))
}

/// What the model knows: everything, in the plainest form.
#[derive(Debug, Default)]
struct Model {
    organization: String,
    kinds: Vec<usize>,
    parents: Vec<usize>,
    node_ids: Vec<String>,
    active: Vec<bool>,
    own: Vec<bool>,
    member_ids: Vec<String>,
    group_ids: Vec<String>,
    groups: BTreeSet<(usize, usize)>,
    /// Holder, role, node.
    held: BTreeMap<(usize, usize, usize), String>,
}

impl Model {
    fn kind_of(&self, node: usize) -> &'static str {
        if node == ROOT { "organization" } else { KINDS[self.kinds[node]] }
    }

    fn id_of(&self, node: usize) -> String {
        if node == ROOT { self.organization.replace("org_", "authz_resource_") } else { self.node_ids[node].clone() }
    }

    fn above(&self, mut node: usize) -> Vec<usize> {
        let mut nodes = vec![node];
        while node != ROOT {
            node = self.parents[node];
            nodes.push(node);
        }
        nodes
    }

    /// The definition that all endpoints are held to.
    fn may(&self, member: usize, permission: usize, node: usize, only_here: bool) -> bool {
        let levels = if only_here { vec![node] } else { self.above(node) };
        let grants = |role: usize| ROLES[role].2.contains(&permission);
        let has = |holder: usize| holder == member || (holder >= MEMBERS && self.groups.contains(&(holder - MEMBERS, member)));
        let assigned = self.held.keys().any(|(holder, role, at)| has(*holder) && grants(*role) && levels.contains(at));
        let by_itself = self.own[member] && grants(0) && levels.contains(&ROOT);
        self.active[member] && PERMISSIONS[permission].1 == self.kind_of(node) && (assigned || by_itself)
    }

    fn nodes(&self) -> Vec<usize> {
        (0..self.kinds.len()).chain([ROOT]).collect()
    }
}

async fn post(app: &TestApp, path: &str, body: Value) -> Value {
    let answer = app.api(Method::POST, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    answer.body
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an object with an id").to_owned()
}

async fn vocabulary(app: &TestApp) {
    for (slug, parents) in
        [("workspace", json!(["organization"])), ("folder", json!(["workspace", "folder"])), ("doc", json!(["workspace", "folder"]))]
    {
        post(app, "/authorization/resource_types", json!({"slug": slug, "parent_type_slugs": parents})).await;
    }
    for (slug, kind) in PERMISSIONS {
        post(app, "/authorization/permissions", json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
    }
}

fn slug_of(role: usize) -> String {
    // Slugs that begin with `org-` belong to organizations.
    ROLES[role].0.replace("org-", "all-")
}

async fn roles(app: &TestApp) {
    for (at, (_, kind, permissions)) in ROLES.iter().enumerate() {
        let slug = slug_of(at);
        post(app, "/authorization/roles", json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
        let permissions: Vec<&str> = permissions.iter().map(|at| PERMISSIONS[*at].0).collect();
        let set = app.api(Method::PUT, &format!("/authorization/roles/{slug}/permissions"), json!({"permissions": permissions})).await;
        assert_eq!(set.status, 200, "{}", set.text);
    }
}

async fn build(app: &TestApp, plan: &Plan, number: usize) -> Model {
    let mut model =
        Model { organization: id(&post(app, "/organizations", json!({"name": format!("o{number}")})).await), ..Model::default() };
    for (at, (kind, parent)) in plan.nodes.iter().enumerate() {
        let parents: Vec<usize> = (0..model.kinds.len()).filter(|node| model.kinds[*node] < 2 && model.above(*node).len() <= 8).collect();
        let (kind, parent) = if parents.is_empty() || kind % 4 == 0 { (0, ROOT) } else { (1 + kind % 2, parents[parent % parents.len()]) };
        let body = json!({"external_id": format!("n{at}"), "name": "n", "resource_type_slug": KINDS[kind],
            "organization_id": model.organization, "parent_resource_id": model.id_of(parent)});
        let made = post(app, "/authorization/resources", body).await;
        model.node_ids.push(id(&made));
        model.kinds.push(kind);
        model.parents.push(parent);
    }
    for (at, (active, own)) in plan.members.iter().enumerate() {
        let user = post(app, "/user_management/users", json!({"email": format!("m{at}-{number}@example.test")})).await;
        let role = if *own { slug_of(0) } else { "member".to_owned() };
        let body = json!({"user_id": user["id"], "organization_id": model.organization, "role_slug": role});
        let membership = id(&post(app, "/user_management/organization_memberships", body).await);
        if !active {
            let path = format!("/user_management/organization_memberships/{membership}/deactivate");
            assert_eq!(app.api(Method::PUT, &path, Value::Null).await.status, 200);
        }
        model.member_ids.push(membership);
        model.active.push(*active);
        model.own.push(*own);
    }
    for at in 0..GROUPS {
        let path = format!("/organizations/{}/groups", model.organization);
        model.group_ids.push(id(&post(app, &path, json!({"name": format!("g{at}")})).await));
    }
    for (group, member) in &plan.joins {
        let path = format!("/organizations/{}/groups/{}/organization-memberships", model.organization, model.group_ids[*group]);
        post(app, &path, json!({"organization_membership_id": model.member_ids[*member]})).await;
        model.groups.insert((*group, *member));
    }
    for (holder, role, node) in &plan.assignments {
        let nodes = model.nodes();
        let node = nodes[node % nodes.len()];
        let fitting: Vec<usize> = (0..ROLES.len()).filter(|role| ROLES[*role].1 == model.kind_of(node)).collect();
        let role = fitting[role % fitting.len()];
        if model.held.contains_key(&(*holder, role, node)) || (role == 0 && node == ROOT && *holder < MEMBERS && model.own[*holder]) {
            continue;
        }
        let body = json!({"role_slug": slug_of(role), "resource_id": model.id_of(node)});
        let made = post(app, &format!("{}/role_assignments", holder_path(&model, *holder)), body).await;
        model.held.insert((*holder, role, node), id(&made));
    }
    model
}

fn holder_path(model: &Model, holder: usize) -> String {
    match holder.checked_sub(MEMBERS) {
        Some(group) => format!("/authorization/groups/{}", model.group_ids[group]),
        None => format!("/authorization/organization_memberships/{}", model.member_ids[holder]),
    }
}

/// Moves nodes and takes roles away, in both worlds.
async fn change(app: &TestApp, plan: &Plan, model: &mut Model) {
    for (node, below) in &plan.moves {
        let node = node % model.kinds.len();
        let nodes = model.nodes();
        let below = nodes[below % nodes.len()];
        let height =
            (0..model.kinds.len()).filter_map(|other| model.above(other).iter().position(|above| *above == node)).max().unwrap_or_default();
        let fits = may_stand(model.kinds[node], (below != ROOT).then(|| model.kinds[below]))
            && !model.above(below).contains(&node)
            && model.above(below).len() + height <= 10;
        // A workspace stays right below the organization: the same place is no move and no error.
        let path = format!("/authorization/resources/{}", model.node_ids[node]);
        let answer = app.api(Method::PATCH, &path, json!({"parent_resource_id": model.id_of(below)})).await;
        assert_eq!(answer.status, if fits { 200 } else { 422 }, "{node} below {below}: {}", answer.text);
        if fits {
            model.parents[node] = below;
        }
    }
    for at in &plan.removals {
        let Some((&key, assignment)) = model.held.iter().nth(at % model.held.len().max(1)) else { return };
        let path = format!("{}/role_assignments/{assignment}", holder_path(model, key.0));
        assert_eq!(app.api(Method::DELETE, &path, Value::Null).await.status, 204);
        model.held.remove(&key);
    }
}

async fn walk(app: &TestApp, path: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let answer = app.api(Method::GET, &format!("{path}&limit=2{after}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        ids.extend(answer.body["data"].as_array().expect("a list").iter().map(id));
        match answer.body["list_metadata"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return ids,
        }
    }
}

/// Lists come in the order of ids.
fn sorted(mut ids: Vec<String>, order: &str) -> Vec<String> {
    ids.sort();
    if order == "desc" {
        ids.reverse();
    }
    ids
}

async fn compare(app: &TestApp, model: &Model) {
    for node in model.nodes() {
        for (permission, (slug, _)) in PERMISSIONS.iter().enumerate() {
            for member in 0..MEMBERS {
                let path = format!("/authorization/organization_memberships/{}/check", model.member_ids[member]);
                let answer = app.api(Method::POST, &path, json!({"permission_slug": slug, "resource_id": model.id_of(node)})).await;
                assert_eq!(answer.body["authorized"], model.may(member, permission, node, false), "{member} {slug} {node}");
                let order = if member % 2 == 0 { "asc" } else { "desc" };
                let path = format!(
                    "/authorization/organization_memberships/{}/resources?permission_slug={slug}&parent_resource_id={}&order={order}",
                    model.member_ids[member],
                    model.id_of(node)
                );
                let children =
                    (0..model.kinds.len()).filter(|child| model.parents[*child] == node && model.may(member, permission, *child, false));
                let expected = sorted(children.map(|child| model.id_of(child)).collect(), order);
                assert_eq!(walk(app, &path).await, expected, "{path}");
            }
            for (assignment, only_here) in [("indirect", false), ("direct", true)] {
                let order = if only_here { "asc" } else { "desc" };
                let path = format!(
                    "/authorization/resources/{}/organization_memberships?permission_slug={slug}&assignment={assignment}&order={order}",
                    model.id_of(node)
                );
                let members = (0..MEMBERS).filter(|member| model.may(*member, permission, node, only_here));
                let expected = sorted(members.map(|member| model.member_ids[member].clone()).collect(), order);
                assert_eq!(walk(app, &path).await, expected, "{path}");
            }
        }
        for member in 0..MEMBERS {
            let path =
                format!("/authorization/organization_memberships/{}/resources/{}/permissions", model.member_ids[member], model.id_of(node));
            let answer = app.api(Method::GET, &path, Value::Null).await;
            let slugs: BTreeSet<&str> =
                answer.body["data"].as_array().expect("a list").iter().filter_map(|row| row["slug"].as_str()).collect();
            let expected: BTreeSet<&str> =
                (0..PERMISSIONS.len()).filter(|at| model.may(member, *at, node, false)).map(|at| PERMISSIONS[at].0).collect();
            assert_eq!(slugs, expected, "{path}");
        }
    }
}

both_engines!(random_organizations_are_answered_as_by_a_model_that_looks_at_everything, |app| async {
    vocabulary(&app).await;
    roles(&app).await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases = if app.is_sqlite() { 8 } else { 3 };
    let (mut allowed, mut held) = (0, 0);
    for number in 0..cases {
        let plan = plans().new_tree(&mut runner).expect("a plan").current();
        let mut model = build(&app, &plan, number).await;
        held += model.held.len();
        for round in 0..2 {
            if round == 1 {
                change(&app, &plan, &mut model).await;
            }
            compare(&app, &model).await;
            for node in model.nodes() {
                allowed += (0..PERMISSIONS.len()).filter(|at| model.may(0, *at, node, false)).count();
            }
        }
    }
    // A model that allows nothing would agree with a server that allows nothing.
    assert!(allowed > 5 && held > 20, "{allowed} {held}");
});
