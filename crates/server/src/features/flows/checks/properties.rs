//! Every answer about a random organization, beside a model that looks at everything: trees, groups, roles of the environment and of
//! the organization, and all that can change under them.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::both_engines;
use crate::testkit::{Answer, TestApp};

const KINDS: [&str; 3] = ["workspace", "folder", "doc"];
const ROOT: usize = usize::MAX;

/// Permissions: slug and type.
const PERMISSIONS: [(&str, &str); 5] =
    [("org:see", "organization"), ("workspace:see", "workspace"), ("folder:see", "folder"), ("doc:see", "doc"), ("doc:edit", "doc")];

/// Roles: slug, type and the permissions by index. Some hold what is for other types: it counts below. Slugs that begin with `org-`
/// are roles of the organization itself.
const ROLES: [(&str, &str, &[usize]); 10] = [
    ("all-wide", "organization", &[0, 3]),
    ("all-none", "organization", &[]),
    ("workspace-reader", "workspace", &[1, 2, 3]),
    ("workspace-editor", "workspace", &[4]),
    ("folder-reader", "folder", &[2, 3]),
    ("folder-lister", "folder", &[2]),
    ("doc-reader", "doc", &[3]),
    ("doc-editor", "doc", &[3, 4]),
    ("org-everywhere", "organization", &[0, 1, 2]),
    ("org-keeper", "workspace", &[1, 4]),
];
/// What a membership may have by itself beside the environment's `member`, which holds nothing.
const OWN_ROLES: [usize; 2] = [0, 8];

/// A random organization: numbers that [`build`] makes sense of.
#[derive(Clone, Debug)]
struct Plan {
    /// Kind and parent.
    nodes: Vec<(usize, usize)>,
    /// What happens to it, in rounds; after each all answers are compared.
    rounds: Vec<Vec<Change>>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    /// Holder (members, then groups), role, node.
    Assign(usize, usize, usize),
    Take(usize),
    Move(usize, usize),
    Delete(usize, bool),
    /// A role gets these permissions, a bit each.
    Redefine(usize, usize),
    /// Active becomes inactive, and back.
    Switch(usize),
    /// Out of the group who is in it, into it who is not.
    Join(usize, usize),
    /// The role that a membership has by itself.
    Own(usize, usize),
    DissolveGroup(usize),
}

const MEMBERS: usize = 4;
const GROUPS: usize = 2;

fn plans() -> impl Strategy<Value = Plan> {
    let any = || 0_usize..1_000;
    let assign = || (0..MEMBERS + GROUPS, any(), any()).prop_map(|(holder, role, node)| Change::Assign(holder, role, node));
    let join = || (0..GROUPS, 0..MEMBERS).prop_map(|(group, member)| Change::Join(group, member));
    let change = prop_oneof![
        4 => assign(),
        2 => any().prop_map(Change::Take),
        3 => (any(), any()).prop_map(|(node, below)| Change::Move(node, below)),
        2 => (any(), prop::bool::ANY).prop_map(|(node, cascade)| Change::Delete(node, cascade)),
        2 => (any(), 0..1_usize << PERMISSIONS.len()).prop_map(|(role, bits)| Change::Redefine(role, bits)),
        2 => (0..MEMBERS).prop_map(Change::Switch),
        2 => join(),
        2 => (0..MEMBERS, any()).prop_map(|(member, role)| Change::Own(member, role)),
        2 => (0..GROUPS).prop_map(Change::DissolveGroup),
    ];
    let first = (prop::collection::vec(assign(), 4..20), prop::collection::vec(join(), 1..5), (0..MEMBERS, any()));
    let later = prop::collection::vec(prop::collection::vec(change, 4..10), 2);
    (prop::collection::vec((any(), any()), 4..13), first, later).prop_map(|(nodes, (assigned, joined, (member, role)), later)| {
        let first = assigned.into_iter().chain(joined).chain([Change::Own(member, role)]).collect();
        Plan { nodes, rounds: [vec![first], later].concat() }
    })
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
    gone: BTreeSet<usize>,
    active: Vec<bool>,
    own: Vec<Option<usize>>,
    member_ids: Vec<String>,
    group_ids: Vec<Option<String>>,
    groups: BTreeSet<(usize, usize)>,
    /// Permissions by role.
    grants: Vec<BTreeSet<usize>>,
    /// Holder, role, node.
    held: BTreeMap<(usize, usize, usize), String>,
}

/// A role a member has on a node, `None` being the environment's `member`.
struct Has<'a> {
    node: usize,
    role: Option<usize>,
    group: Option<usize>,
    assignment: Option<&'a str>,
}

impl Model {
    fn kind_of(&self, node: usize) -> &'static str {
        if node == ROOT { "organization" } else { KINDS[self.kinds[node]] }
    }

    fn id_of(&self, node: usize) -> String {
        if node == ROOT { self.organization.replace("org_", "authz_resource_") } else { self.node_ids[node].clone() }
    }

    fn external_id_of(&self, node: usize) -> String {
        if node == ROOT { self.organization.clone() } else { format!("n{node}") }
    }

    /// The node, then what stands above it.
    fn above(&self, mut node: usize) -> Vec<usize> {
        let mut nodes = vec![node];
        while node != ROOT {
            node = self.parents[node];
            nodes.push(node);
        }
        nodes
    }

    fn has(&self, member: usize) -> Vec<Has<'_>> {
        let mut all = vec![Has { node: ROOT, role: self.own[member], group: None, assignment: None }];
        for ((holder, role, node), id) in &self.held {
            let group = holder.checked_sub(MEMBERS);
            if *holder == member || group.is_some_and(|group| self.groups.contains(&(group, member))) {
                all.push(Has { node: *node, role: Some(*role), group, assignment: Some(id) });
            }
        }
        all
    }

    fn grants(&self, role: Option<usize>, permission: usize) -> bool {
        role.is_some_and(|role| self.grants[role].contains(&permission))
    }

    /// The definition that all endpoints are held to.
    fn may(&self, member: usize, permission: usize, node: usize, only_here: bool) -> bool {
        let levels = if only_here { vec![node] } else { self.above(node) };
        let granted = self.has(member).iter().any(|has| levels.contains(&has.node) && self.grants(has.role, permission));
        self.active[member] && PERMISSIONS[permission].1 == self.kind_of(node) && granted
    }

    fn all(&self) -> Vec<usize> {
        (0..self.kinds.len()).filter(|node| !self.gone.contains(node)).collect()
    }

    fn nodes(&self) -> Vec<usize> {
        self.all().into_iter().chain([ROOT]).collect()
    }

    fn below(&self, node: usize) -> Vec<usize> {
        self.all().into_iter().filter(|other| self.above(*other).contains(&node)).collect()
    }

    fn holder_path(&self, holder: usize) -> Option<String> {
        match holder.checked_sub(MEMBERS) {
            Some(group) => self.group_ids[group].as_ref().map(|id| format!("/authorization/groups/{id}")),
            None => Some(format!("/authorization/organization_memberships/{}", self.member_ids[holder])),
        }
    }

    fn roles_path(&self, role: usize) -> String {
        if ROLES[role].0.starts_with("org-") {
            format!("/authorization/organizations/{}/roles", self.organization)
        } else {
            "/authorization/roles".to_owned()
        }
    }

    fn slug_of(role: Option<usize>) -> &'static str {
        role.map_or("member", |role| ROLES[role].0)
    }
}

async fn post(app: &TestApp, path: &str, body: Value) -> Value {
    let answer = app.api(Method::POST, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    answer.body
}

async fn expect(app: &TestApp, method: Method, path: &str, body: Value, status: u16) -> Answer {
    let answer = app.api(method.clone(), path, body.clone()).await;
    assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
    answer
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an object with an id").to_owned()
}

fn texts<'a>(rows: &'a [Value], field: &str) -> Vec<&'a str> {
    rows.iter().filter_map(|row| row[field].as_str()).collect()
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
    for (slug, kind, _) in ROLES.iter().filter(|role| !role.0.starts_with("org-")) {
        post(app, "/authorization/roles", json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
    }
}

async fn define(app: &TestApp, model: &mut Model, role: usize, permissions: BTreeSet<usize>) {
    let slugs: Vec<&str> = permissions.iter().map(|at| PERMISSIONS[*at].0).collect();
    let path = format!("{}/{}/permissions", model.roles_path(role), ROLES[role].0);
    expect(app, Method::PUT, &path, json!({"permissions": slugs}), 200).await;
    model.grants[role] = permissions;
}

async fn build(app: &TestApp, plan: &Plan, number: usize) -> Model {
    let organization = id(&post(app, "/organizations", json!({"name": format!("o{number}")})).await);
    let mut model = Model { organization, grants: vec![BTreeSet::new(); ROLES.len()], ..Model::default() };
    for (role, (slug, kind, permissions)) in ROLES.iter().enumerate() {
        if slug.starts_with("org-") {
            let path = model.roles_path(role);
            post(app, &path, json!({"slug": slug, "name": slug, "resource_type_slug": kind})).await;
        }
        // Those of the environment may come from another organization's rounds.
        define(app, &mut model, role, permissions.iter().copied().collect()).await;
    }
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
    for at in 0..MEMBERS {
        let user = post(app, "/user_management/users", json!({"email": format!("m{at}-{number}@example.test")})).await;
        let body = json!({"user_id": user["id"], "organization_id": model.organization});
        model.member_ids.push(id(&post(app, "/user_management/organization_memberships", body).await));
        model.active.push(true);
        model.own.push(None);
    }
    for at in 0..GROUPS {
        let path = format!("/organizations/{}/groups", model.organization);
        model.group_ids.push(Some(id(&post(app, &path, json!({"name": format!("g{at}")})).await)));
    }
    model
}

/// Makes one change in both worlds, and says whether there was anything to do.
async fn change(app: &TestApp, model: &mut Model, change: Change) -> bool {
    match change {
        Change::Assign(holder, role, node) => {
            let nodes = model.nodes();
            let node = nodes[node % nodes.len()];
            let fitting: Vec<usize> = (0..ROLES.len()).filter(|role| ROLES[*role].1 == model.kind_of(node)).collect();
            let role = fitting[role % fitting.len()];
            let owned = node == ROOT && model.own.get(holder) == Some(&Some(role));
            let Some(path) = model.holder_path(holder).filter(|_| !owned && !model.held.contains_key(&(holder, role, node))) else {
                return false;
            };
            let body = json!({"role_slug": ROLES[role].0, "resource_id": model.id_of(node)});
            let made = post(app, &format!("{path}/role_assignments"), body).await;
            model.held.insert((holder, role, node), id(&made));
        }
        Change::Take(at) => {
            let Some((&key, assignment)) = model.held.iter().nth(at % model.held.len().max(1)) else { return false };
            let Some(path) = model.holder_path(key.0) else { return false };
            expect(app, Method::DELETE, &format!("{path}/role_assignments/{assignment}"), Value::Null, 204).await;
            model.held.remove(&key);
        }
        Change::Move(node, below) => {
            let (all, nodes) = (model.all(), model.nodes());
            if all.is_empty() {
                return false;
            }
            let (node, below) = (all[node % all.len()], nodes[below % nodes.len()]);
            let height = all.iter().filter_map(|other| model.above(*other).iter().position(|above| *above == node)).max();
            let fits = may_stand(model.kinds[node], (below != ROOT).then(|| model.kinds[below]))
                && !model.above(below).contains(&node)
                && model.above(below).len() + height.unwrap_or_default() <= 10;
            // A workspace stays right below the organization: the same place is no move and no error.
            let path = format!("/authorization/resources/{}", model.node_ids[node]);
            let body = json!({"parent_resource_id": model.id_of(below)});
            expect(app, Method::PATCH, &path, body, if fits { 200 } else { 422 }).await;
            if fits {
                model.parents[node] = below;
            }
            return fits;
        }
        Change::Delete(node, cascade) => {
            let all = model.all();
            if all.is_empty() {
                return false;
            }
            let node = all[node % all.len()];
            let below = model.below(node);
            let free = below.len() == 1 && !model.held.keys().any(|(_, _, at)| *at == node);
            let query = if cascade { "?cascade_delete=true" } else { "" };
            let path = format!("/authorization/resources/{}{query}", model.node_ids[node]);
            expect(app, Method::DELETE, &path, Value::Null, if free || cascade { 204 } else { 409 }).await;
            if !free && !cascade {
                return false;
            }
            model.held.retain(|(_, _, at), _| !below.contains(at));
            model.gone.extend(below);
        }
        Change::Redefine(role, bits) => {
            let permissions = (0..PERMISSIONS.len()).filter(|at| bits >> at & 1 == 1).collect();
            define(app, model, role % ROLES.len(), permissions).await;
        }
        Change::Switch(member) => {
            let verb = if model.active[member] { "deactivate" } else { "reactivate" };
            let path = format!("/user_management/organization_memberships/{}/{verb}", model.member_ids[member]);
            expect(app, Method::PUT, &path, Value::Null, 200).await;
            model.active[member] = !model.active[member];
        }
        Change::Join(group, member) => {
            let Some(id) = &model.group_ids[group] else { return false };
            let path = format!("/organizations/{}/groups/{id}/organization-memberships", model.organization);
            let membership = &model.member_ids[member];
            if model.groups.remove(&(group, member)) {
                expect(app, Method::DELETE, &format!("{path}/{membership}"), Value::Null, 204).await;
            } else {
                post(app, &path, json!({"organization_membership_id": membership})).await;
                model.groups.insert((group, member));
            }
        }
        Change::Own(member, role) => {
            let role = OWN_ROLES.get(role % (OWN_ROLES.len() + 1)).copied();
            let path = format!("/user_management/organization_memberships/{}", model.member_ids[member]);
            expect(app, Method::PUT, &path, json!({"role_slug": Model::slug_of(role)}), 200).await;
            model.own[member] = role;
        }
        Change::DissolveGroup(group) => {
            let Some(id) = model.group_ids[group].take() else { return false };
            let path = format!("/organizations/{}/groups/{id}", model.organization);
            expect(app, Method::DELETE, &path, Value::Null, 204).await;
            model.groups.retain(|(of, _)| *of != group);
            model.held.retain(|(holder, _, _), _| *holder != MEMBERS + group);
        }
    }
    true
}

async fn walk(app: &TestApp, path: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let answer = expect(app, Method::GET, &format!("{path}&limit=2{after}"), Value::Null, 200).await;
        rows.extend(answer.body["data"].as_array().expect("a list").iter().cloned());
        match answer.body["list_metadata"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return rows,
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
        for permission in 0..PERMISSIONS.len() {
            for member in 0..MEMBERS {
                compare_verdict(app, model, member, permission, node).await;
                compare_children(app, model, member, permission, node).await;
            }
            compare_members(app, model, permission, node).await;
        }
        for member in 0..MEMBERS {
            let path =
                format!("/authorization/organization_memberships/{}/resources/{}/permissions", model.member_ids[member], model.id_of(node));
            let rows = walk(app, &format!("{path}?order=asc")).await;
            let expected: Vec<&str> =
                (0..PERMISSIONS.len()).filter(|at| model.may(member, *at, node, false)).map(|at| PERMISSIONS[at].0).collect();
            assert_eq!(texts(&rows, "slug").into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect(), "{path}");
        }
    }
    for member in 0..MEMBERS {
        compare_roles(app, model, member).await;
    }
    for node in model.gone.iter().take(2) {
        let path = format!("/authorization/organization_memberships/{}/check", model.member_ids[0]);
        expect(app, Method::POST, &path, json!({"permission_slug": "doc:see", "resource_id": model.id_of(*node)}), 404).await;
    }
}

/// The check, and the explanation of the same.
async fn compare_verdict(app: &TestApp, model: &Model, member: usize, permission: usize, node: usize) {
    let of_member = format!("/authorization/organization_memberships/{}", model.member_ids[member]);
    let slug = PERMISSIONS[permission].0;
    let mut ask = json!({"permission_slug": slug, "resource_id": model.id_of(node)});
    let may = model.may(member, permission, node, false);
    let at = format!("{member} {slug} {node}");
    let verdict = expect(app, Method::POST, &format!("{of_member}/check"), ask.clone(), 200).await;
    assert_eq!(verdict.body, json!({"authorized": may}), "{at}");
    if node.is_multiple_of(2) || node == ROOT {
        ask =
            json!({"permission_slug": slug, "resource_type_slug": model.kind_of(node), "resource_external_id": model.external_id_of(node)});
    }
    let told = expect(app, Method::POST, &format!("{of_member}/explain"), ask, 200).await.body;
    assert_eq!(told["authorized"], may, "{at}");
    let text = told["explanation"].as_str().expect("a sentence");
    let levels = model.above(node);
    let level = |has: &Has<'_>| levels.iter().position(|above| *above == has.node);
    let mut counting: Vec<Has<'_>> = model.has(member).into_iter().filter(|has| level(has).is_some()).collect();
    if may {
        counting.retain(|has| model.grants(has.role, permission));
    }
    let nearest = counting.iter().filter_map(level).min().expect("everybody is at least `member`");
    counting.retain(|has| level(has) == Some(nearest));
    if may {
        let role = &told["role"];
        let named = counting.iter().any(|has| {
            let group = has.group.and_then(|group| model.group_ids[group].as_deref());
            *role
                == json!({"slug": Model::slug_of(has.role), "resource_type_slug": model.kind_of(has.node),
                    "resource_external_id": model.external_id_of(has.node), "role_assignment_id": has.assignment, "group_id": group})
        });
        assert!(named && text.starts_with("Allowed because "), "{at}: {told}");
        return;
    }
    assert_eq!(told["role"], Value::Null, "{at}");
    let misses: Vec<String> = if !model.active[member] {
        vec!["the membership is inactive, not active".to_owned()]
    } else if PERMISSIONS[permission].1 != model.kind_of(node) {
        vec![format!("'{slug}' is for resources of type '{}'", PERMISSIONS[permission].1)]
    } else {
        let place = format!("{} '{}'", model.kind_of(levels[nearest]), model.external_id_of(levels[nearest]));
        counting
            .iter()
            .map(|has| match has.assignment {
                Some(_) => format!("nearest miss is that the role '{}' on {place}", Model::slug_of(has.role)),
                None => format!("nearest miss is that '{}' is a role of the membership in {place}", Model::slug_of(has.role)),
            })
            .collect()
    };
    assert!(misses.iter().any(|miss| text.starts_with(&format!("Denied: {miss}"))), "{at}: {text}, not {misses:?}");
}

/// What of the children of a node a membership may.
async fn compare_children(app: &TestApp, model: &Model, member: usize, permission: usize, node: usize) {
    let order = if member.is_multiple_of(2) { "asc" } else { "desc" };
    let path = format!(
        "/authorization/organization_memberships/{}/resources?permission_slug={}&parent_resource_id={}&order={order}",
        model.member_ids[member],
        PERMISSIONS[permission].0,
        model.id_of(node)
    );
    let children = model.all().into_iter().filter(|child| model.parents[*child] == node && model.may(member, permission, *child, false));
    let expected = sorted(children.map(|child| model.id_of(child)).collect(), order);
    assert_eq!(texts(&walk(app, &path).await, "id"), expected, "{path}");
}

/// Who may on a node.
async fn compare_members(app: &TestApp, model: &Model, permission: usize, node: usize) {
    for (assignment, only_here) in [("indirect", false), ("direct", true)] {
        let order = if only_here { "asc" } else { "desc" };
        let path = format!(
            "/authorization/resources/{}/organization_memberships?permission_slug={}&assignment={assignment}&order={order}",
            model.id_of(node),
            PERMISSIONS[permission].0
        );
        let members = (0..MEMBERS).filter(|member| model.may(*member, permission, node, only_here));
        let expected = sorted(members.map(|member| model.member_ids[member].clone()).collect(), order);
        assert_eq!(texts(&walk(app, &path).await, "id"), expected, "{path}");
    }
}

/// What a membership holds: all of it, on a resource by either of its names, on a type.
async fn compare_roles(app: &TestApp, model: &Model, member: usize) {
    let path = format!("/authorization/organization_memberships/{}/role_assignments?order=asc", model.member_ids[member]);
    let shown = |rows: &[Value]| {
        let mut all: Vec<String> = rows
            .iter()
            .map(|row| {
                let group = row["source"]["group"]["id"].as_str().unwrap_or("-");
                format!("{} {} {group}", row["role"]["slug"].as_str().expect("a slug"), row["resource"]["id"].as_str().expect("an id"))
            })
            .collect();
        all.sort();
        all
    };
    let expected = |shows: &dyn Fn(usize) -> bool| {
        let has = model.has(member).into_iter().filter(|has| shows(has.node)).map(|has| {
            let group = has.group.and_then(|group| model.group_ids[group].as_deref()).unwrap_or("-");
            format!("{} {} {group}", Model::slug_of(has.role), model.id_of(has.node))
        });
        let mut all: Vec<String> = has.collect();
        all.sort();
        all
    };
    assert_eq!(shown(&walk(app, &path).await), expected(&|_| true), "{path}");
    for node in model.nodes() {
        let (id, kind, external) = (model.id_of(node), model.kind_of(node), model.external_id_of(node));
        for query in [
            format!("resource_id={id}"),
            format!("resource_external_id={external}"),
            format!("resource_external_id={external}&resource_type_slug={kind}"),
        ] {
            assert_eq!(shown(&walk(app, &format!("{path}&{query}")).await), expected(&|at| at == node), "{path}&{query}");
        }
        let crossed = format!("{path}&resource_id={id}&resource_external_id=other");
        assert_eq!(shown(&walk(app, &crossed).await), [""; 0], "{crossed}");
    }
    for kind in ["organization", "workspace", "folder", "doc"] {
        let of_kind = format!("{path}&resource_type_slug={kind}");
        assert_eq!(shown(&walk(app, &of_kind).await), expected(&|at| model.kind_of(at) == kind), "{of_kind}");
    }
}

both_engines!(random_organizations_are_answered_as_by_a_model_that_looks_at_everything, |app| async {
    vocabulary(&app).await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases = if app.is_sqlite() { 6 } else { 3 };
    let (mut allowed, mut held) = (0, 0);
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..cases {
        let plan = plans().new_tree(&mut runner).expect("a plan").current();
        let mut model = build(&app, &plan, number).await;
        for round in &plan.rounds {
            for one in round {
                if change(&app, &mut model, *one).await {
                    *done.entry(format!("{one:?}").split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
            compare(&app, &model).await;
            held += model.held.len();
            for node in model.nodes() {
                allowed += (0..PERMISSIONS.len()).filter(|at| model.may(0, *at, node, false)).count();
            }
        }
    }
    // A model that allows nothing would agree with a server that allows nothing, and one that changes nothing with one that forgets.
    assert!(allowed > 5 && held > 20, "{allowed} {held}");
    // PostgreSQL is asked about the first of the same organizations.
    assert_eq!(if app.is_sqlite() { done.len() } else { 9 }, 9, "some kind of change never came up: {done:?}");
});
