//! Fine-grained authorization on both engines: what a check costs among a million resources five levels deep, on what that depends, and
//! what a page of each long list costs at its beginning, in its middle and at its end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Connection, Load, drive};
use super::machine::Folder;
use super::measure::{Bench, bearer, expect_200, make_accounts, micros, post};
use super::report::{Budget, Unit, median};
use super::server::Server;
use crate::suite::postgres::{Commits, Postgres};

mod fill;

use fill::{Fill, People};

/// How many resources stand at the lowest of the five levels, one after the other.
const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
/// Rows of every other long list.
const LONG: u64 = 1_000_000;
const CLIENTS: usize = 4;
/// One request after the other, as an app asks that has work to do.
const BUSY: Duration = Duration::ZERO;
/// A client that asks up to 500 times a second. What it measures besides the check is how long idle cores of the machine take to wake, once
/// for each exchange between client, server and database.
const SELDOM: Duration = Duration::from_millis(2);

pub fn on_sqlite(bench: &mut Bench<'_>) -> Result<(), String> {
    let folder = Folder::fresh(bench.root, "authorization")?;
    on_engine(bench, "SQLite", &folder.0, None)
}

/// A cluster of the bench's own with the settings it comes with. It runs where the load generator does.
pub fn on_postgres(bench: &mut Bench<'_>) -> Result<(), String> {
    let postgres = Postgres::start(Commits::Durable)?;
    let folder = Folder::fresh(bench.root, "authorization-postgres")?;
    on_engine(bench, "PostgreSQL", &folder.0, Some(&postgres.url))
}

fn on_engine(bench: &mut Bench<'_>, engine: &str, data: &Path, url: Option<&str>) -> Result<(), String> {
    let start = || Server::start_on(bench.root, data, url);
    let mut world = World::plant(&start()?)?;
    let sqlite = format!("sqlite:{}", data.join("gatewright.db").display());
    let fill = Fill::open(url.unwrap_or(&sqlite), &world.organization)?;
    let begun = Instant::now();
    let (mut medians, mut grown) = (Vec::new(), 0);
    for size in SIZES {
        fill.grow_tree(grown, size)?;
        grown = size;
        if size == SIZES[2] {
            // Everything else that is long stands beside the largest tree, so that it is not the tree alone that may not matter.
            fill.long_lists(LONG, &world.people)?;
            fill.settle()?;
            let seconds = begun.elapsed().as_secs_f64();
            bench.report.note(&format!("{engine}: filling"), &format!("{seconds:.0} s"), "checks of the smaller trees included", "");
        }
        let server = start()?;
        world.assign(&server, size)?;
        let ask = Ask { server: &server, world: &world, count: size };
        ask.check(Who::Member, 1, BUSY, bench.span / 4)?;
        let mut found = Vec::new();
        for _ in 0..bench.rounds {
            found.push(ask.check(Who::Member, 1, BUSY, bench.span)?);
        }
        medians.push(found.iter().map(|load| micros(load.percentile(50))).collect::<Vec<_>>());
        if size == SIZES[2] {
            show_p99(bench, &format!("{engine}: check, a million resources"), &found);
            measure_largest(bench, engine, &ask, &medians)?;
        }
    }
    fill.close();
    Ok(())
}

fn measure_largest(bench: &mut Bench<'_>, engine: &str, ask: &Ask<'_>, medians: &[Vec<f64>]) -> Result<(), String> {
    for (clients, name) in [(1, "one client"), (CLIENTS, "four clients")] {
        let mut found = Vec::new();
        for _ in 0..bench.rounds {
            found.push(ask.check(Who::Member, clients, SELDOM, bench.span)?);
        }
        let of = |percent| median(found.iter().map(|load| micros(load.percentile(percent))).collect());
        let (p50, p99) = (of(50), of(99));
        bench.report.note(
            &format!("{engine}: the same, {name}, now and then"),
            &format!("{p99:.0} us p99"),
            &format!("{p50:.0} us p50"),
            "",
        );
    }
    for (at, name) in [(1, "100,000"), (2, "1,000,000")] {
        let few = median(medians[0].clone());
        let figures: Vec<f64> = medians[at].iter().map(|many| many / few).collect();
        let (shown, reference) = (format!("{:.0} us p50", median(medians[at].clone())), format!("{few:.0} us p50 among {}", SIZES[0]));
        let what = format!("{engine}: check among {name} resources");
        bench.report.line(&what, &shown, &reference, &figures, Unit::Times, Budget::AtMost(1.25));
    }
    let (mut by_depth, mut much) = (fill::DEPTHS.map(|_| Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..bench.rounds {
        for (at, depth) in fill::DEPTHS.into_iter().enumerate() {
            by_depth[at].push(ask.check(Who::AtDepth(depth), 1, BUSY, bench.span / 4)?);
        }
        much.0.push(micros(ask.check(Who::OfShelf, 1, BUSY, bench.span / 4)?.percentile(50)));
        much.1.push(micros(ask.check(Who::Keeper, 1, BUSY, bench.span / 4)?.percentile(50)));
    }
    for (at, depth) in fill::DEPTHS.into_iter().enumerate() {
        show_p99(bench, &format!("{engine}: check at depth {depth}"), &by_depth[at]);
    }
    let figures: Vec<f64> = much.1.iter().zip(&much.0).map(|(keeper, member)| keeper / member).collect();
    let (shown, reference) = (format!("{:.0} us p50", median(much.1)), format!("{:.0} us p50 of who holds three", median(much.0)));
    let what = format!("{engine}: check of who holds a million roles");
    bench.report.line(&what, &shown, &reference, &figures, Unit::Times, Budget::AtMost(1.5));
    for list in ask.world.lists() {
        measure_list(bench, engine, ask.server, &list)?;
    }
    Ok(())
}

fn show_p99(bench: &mut Bench<'_>, what: &str, loads: &[Load]) {
    let millis: Vec<f64> = loads.iter().map(|load| micros(load.percentile(99)) / 1e3).collect();
    let middle = median(loads.iter().map(|load| micros(load.percentile(50))).collect());
    let rate = median(loads.iter().map(Load::per_second).collect());
    let shown = format!("{:.0} us p99", 1e3 * median(millis.clone()));
    bench.report.line(what, &shown, &format!("{middle:.0} us p50 at {rate:.0}/s"), &millis, Unit::Millis, Budget::AtMost(1.0));
}

/// Pages of a hundred, in turns at the three places.
fn measure_list(bench: &mut Bench<'_>, engine: &str, server: &Server, list: &Long) -> Result<(), String> {
    let (mut connection, headers) = (server.connect()?, bearer(server));
    let mut found = [const { Vec::new() }; 3];
    for _ in 0..bench.rounds {
        for (at, place) in list.places().into_iter().enumerate() {
            let (connection, path) = (&mut connection, format!("{}{place}", list.path));
            let read = || page(connection, &path, &headers).map(|_| true);
            found[at].push(micros(drive(vec![read], bench.span / 8, Duration::ZERO)?.percentile(50)));
        }
    }
    let figures: Vec<f64> = found[2].iter().zip(&found[0]).map(|(end, beginning)| end / beginning).collect();
    let [beginning, middle, end] = found.map(|figures| format!("{:.2}", median(figures) / 1e3));
    let what = format!("{engine}: page of {}", list.what);
    bench.report.line(&what, &format!("{end} ms at end"), &format!("{beginning} beginning, {middle} middle"), &figures, Unit::Times, LIST);
    Ok(())
}

/// What is left of it is noise: a page deep in the list may lie in pages of the file nobody has read before.
const LIST: Budget = Budget::AtMost(1.5);

fn page(connection: &mut Connection, path: &str, headers: &str) -> Result<(), String> {
    let body = expect_200(connection.send("GET", path, headers, None)?).map_err(|error| format!("{path}: {error}"))?;
    let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))?;
    let rows = answer["data"].as_array().map_or(0, Vec::len);
    if rows == 100 { Ok(()) } else { Err(format!("{path}: {rows} rows where 100 are")) }
}

/// A list of [`LONG`] rows, whose ids are known.
struct Long {
    what: &'static str,
    path: String,
    prefix: &'static str,
    level: u8,
}

impl Long {
    /// No cursor, the middle, and where the last hundred begin.
    fn places(&self) -> [String; 3] {
        let after = |n| format!("&after={}{}", self.prefix, fill::ulid(self.level, n));
        [String::new(), after(LONG / 2), after(LONG - 101)]
    }
}

/// An organization with a member whose roles come by all ways, and one who holds a role on each of a million resources.
struct World {
    organization: String,
    member: String,
    keeper: String,
    group: String,
    people: People,
    assigned: u64,
}

impl World {
    fn plant(server: &Server) -> Result<Self, String> {
        let (mut connection, key) = (server.connect()?, bearer(server));
        let users = make_accounts(server, &["bench-member@example.com".to_owned(), "bench-keeper@example.com".to_owned()], None)?;
        let mut make = |path: &str, body: Value| {
            let made = post(&mut connection, path, &key, &body)?;
            Ok::<_, String>(made["id"].as_str().unwrap_or_default().to_owned())
        };
        let organization = make("/organizations", json!({"name": "Bench"}))?;
        let mut member =
            |user: &str| make("/user_management/organization_memberships", json!({"user_id": user, "organization_id": organization}));
        let (member, keeper) = (member(&users[0])?, member(&users[1])?);
        make("/authorization/resource_types", json!({"slug": "folder", "parent_type_slugs": ["organization", "folder"]}))?;
        make("/authorization/resource_types", json!({"slug": "item", "parent_type_slugs": ["folder"]}))?;
        for (slug, kind) in
            [("item:see", "item"), ("item:edit", "item"), ("item:list", "item"), ("folder:see", "folder"), ("org:see", "organization")]
        {
            make("/authorization/permissions", json!({"slug": slug, "name": slug, "resource_type_slug": kind}))?;
        }
        let mut role = |slug: &str, kind: &str, permission: &str| {
            let id = make("/authorization/roles", json!({"slug": slug, "name": slug, "resource_type_slug": kind}))?;
            make(&format!("/authorization/roles/{slug}/permissions"), json!({"slug": permission}))?;
            Ok::<_, String>(id)
        };
        role("reader", "folder", "item:see")?;
        role("lister", "folder", "item:list")?;
        let people = People {
            visitor_role: role("visitor", "folder", "folder:see")?,
            viewer_role: role("viewer", "item", "item:see")?,
            keeper: keeper.clone(),
        };
        make("/authorization/roles/member/permissions", json!({"slug": "org:see"}))?;
        let groups = format!("/organizations/{organization}/groups");
        let (group, other) = (make(&groups, json!({"name": "Readers"}))?, make(&groups, json!({"name": "Others"}))?);
        for id in [&group, &other] {
            make(&format!("{groups}/{id}/organization-memberships"), json!({"organization_membership_id": member}))?;
        }
        let mut above = organization.replace("org_", "authz_resource_");
        for depth in 1..=10 {
            let kind = if depth == 10 { "item" } else { "folder" };
            let body = json!({"external_id": format!("deep{depth}"), "name": "x", "resource_type_slug": kind,
                "organization_id": organization, "parent_resource_id": above});
            above = make("/authorization/resources", body)?;
            for leaf in fill::DEPTHS.into_iter().filter(|leaf| *leaf != 10 && *leaf == depth + 1) {
                let body = json!({"external_id": format!("at{leaf}"), "name": "x", "resource_type_slug": "item",
                    "organization_id": organization, "parent_resource_id": above});
                make("/authorization/resources", body)?;
            }
            if depth == 1 {
                let body = json!({"role_slug": "reader", "resource_id": above});
                make(&format!("/authorization/groups/{group}/role_assignments"), body)?;
            }
        }
        Ok(Self { organization, member, keeper, group, people, assigned: 0 })
    }

    /// What the member sees, it sees through its group, from the top; what it may list, by a role of its own half-way down.
    fn assign(&mut self, server: &Server, size: u64) -> Result<(), String> {
        let (mut connection, key) = (server.connect()?, bearer(server));
        let mut give = |holder: String, role: &str, resource: String| {
            let body = json!({"role_slug": role, "resource_id": resource});
            post(&mut connection, &format!("/authorization/{holder}/role_assignments"), &key, &body).map(drop)
        };
        for top in self.assigned..fill::tops(size) {
            give(format!("groups/{}", self.group), "reader", fill::resource(1, top))?;
            give(format!("organization_memberships/{}", self.member), "lister", fill::resource(3, 100 * top))?;
        }
        self.assigned = fill::tops(size);
        if size == SIZES[2] {
            give(format!("groups/{}", self.group), "reader", fill::resource(fill::SHELF, 0))?;
        }
        Ok(())
    }

    fn lists(&self) -> Vec<Long> {
        let (organization, root) = (&self.organization, self.organization.replace("org_", "authz_resource_"));
        let shelf = fill::resource(fill::SHELF, 0);
        let of = |id: &str| format!("/authorization/organization_memberships/{id}");
        let rows = "limit=100&order=asc";
        let long = |what, path, prefix, level| Long { what, path, prefix, level };
        let resource = "authz_resource_";
        vec![
            long(
                "resources of an organization",
                format!("/authorization/resources?organization_id={organization}&{rows}"),
                resource,
                fill::ON_SHELF,
            ),
            long(
                "resources by organization and type",
                format!("/authorization/resources?organization_id={organization}&resource_type_slug=item&{rows}"),
                resource,
                fill::ON_SHELF,
            ),
            long("resources below one", format!("/authorization/resources?parent_resource_id={shelf}&{rows}"), resource, fill::ON_SHELF),
            long(
                "resources a membership may, inherited",
                format!("{}/resources?permission_slug=item:see&parent_resource_id={shelf}&{rows}", of(&self.member)),
                resource,
                fill::ON_SHELF,
            ),
            long(
                "resources a membership may, one by one",
                format!("{}/resources?permission_slug=item:see&parent_resource_id={shelf}&{rows}", of(&self.keeper)),
                resource,
                fill::ON_SHELF,
            ),
            long(
                "memberships on a resource, assigned",
                format!("/authorization/resources/{shelf}/organization_memberships?permission_slug=folder:see&{rows}"),
                "om_",
                1,
            ),
            long(
                "memberships on a resource, own role",
                format!("/authorization/resources/{root}/organization_memberships?permission_slug=org:see&{rows}"),
                "om_",
                1,
            ),
            long("roles of a membership", format!("{}/role_assignments?{rows}", of(&self.keeper)), "role_assignment_", 2),
            long("roles held on a resource", format!("/authorization/resources/{shelf}/role_assignments?{rows}"), "role_assignment_", 1),
            long(
                "memberships of an organization",
                format!("/user_management/organization_memberships?organization_id={organization}&{rows}"),
                "om_",
                1,
            ),
            long("users of an organization", format!("/user_management/users?organization_id={organization}&{rows}"), "user_", 1),
            long("users", format!("/user_management/users?{rows}"), "user_", 1),
            long("organizations", format!("/organizations?{rows}"), "org_", 1),
        ]
    }
}

/// Whose check, and of what.
#[derive(Clone, Copy)]
enum Who {
    /// The member, all over the tree.
    Member,
    /// The member, of one resource at that depth.
    AtDepth(u64),
    /// The member, all over the shelf.
    OfShelf,
    /// Who holds a role on each resource of the shelf.
    Keeper,
}

struct Ask<'a> {
    server: &'a Server,
    world: &'a World,
    count: u64,
}

impl Ask<'_> {
    /// Two of three are allowed.
    fn check(&self, who: Who, clients: usize, pause: Duration, span: Duration) -> Result<Load, String> {
        let membership = if matches!(who, Who::Keeper) { &self.world.keeper } else { &self.world.member };
        let path = format!("/authorization/organization_memberships/{membership}/check");
        let mut workers = Vec::new();
        for client in 0..clients {
            let (mut connection, headers, path) = (self.server.connect()?, bearer(self.server), path.clone());
            let mut turn = (client as u64) << 40;
            workers.push(move || {
                turn += 1;
                // Odd multiplier: all over the index.
                let n = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                let permission = if turn.is_multiple_of(3) { "item:edit" } else { "item:see" };
                let body = match who {
                    Who::Member => json!({"permission_slug": permission, "resource_id": fill::resource(5, n % self.count)}),
                    Who::OfShelf | Who::Keeper => {
                        json!({"permission_slug": permission, "resource_id": fill::resource(fill::ON_SHELF, n % LONG)})
                    }
                    Who::AtDepth(depth) => {
                        let name = if depth == 10 { "deep10".to_owned() } else { format!("at{depth}") };
                        json!({"permission_slug": permission, "resource_type_slug": "item", "resource_external_id": name})
                    }
                };
                let answer = post(&mut connection, &path, &headers, &body)?;
                let right = answer["authorized"] == (permission == "item:see");
                if right { Ok(true) } else { Err(format!("{body} was answered {answer}")) }
            });
        }
        drive(workers, span, pause)
    }
}
