//! Arrows between crates, fences around heavy dependencies, and crates that may not be in the lock file.

use super::Finding;
use super::source::{File, Tree};

/// Which of our crates each may depend on. Nothing depends on `xtask`, and `gatewright` is the roof.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("jose", &["base"]),
    ("oauth", &["jose", "base"]),
    ("saml", &["jose", "base"]),
    ("scim", &["base"]),
    ("webauthn", &["jose", "base"]),
    ("db", &["base"]),
    ("guard", &["oauth", "jose", "base"]),
    ("python", &["guard", "jose", "base"]),
    ("proxy", &["guard", "oauth", "jose", "base"]),
    ("server", &["db", "proxy", "guard", "oauth", "saml", "scim", "webauthn", "jose", "base"]),
    ("gatewright", &["server", "db", "proxy", "guard", "oauth", "saml", "scim", "jose", "base"]),
    ("xtask", &["server", "db", "proxy", "guard", "oauth", "saml", "scim", "jose", "base"]),
];

/// Dependencies that only these crates may name.
const FENCES: &[(&[&str], &[&str])] = &[
    (&["db"], &["rusqlite", "libsqlite3-sys", "postgres", "tokio-postgres", "tokio-postgres-rustls", "sqlx"]),
    (&["server"], &["utoipa-axum", "minijinja", "lettre", "hickory-resolver"]),
    (&["server", "guard"], &["axum"]),
    (&["guard", "gatewright"], &["ureq"]),
];

/// Never anywhere in the lock file: a second TLS stack, and an RSA with a timing leak (RUSTSEC-2023-0071).
const BANNED: &[(&str, &str)] = &[
    ("openssl", "use rustls with aws-lc-rs"),
    ("openssl-sys", "use rustls with aws-lc-rs"),
    ("native-tls", "use rustls with aws-lc-rs"),
    ("rsa", "use aws-lc-rs"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if let Some(name) = crate_of(&file.path) {
            check_manifest(file, name, &mut findings);
        }
    }
    if let Some(lock) = tree.file("Cargo.lock") {
        check_lock(lock, &mut findings);
    }
    findings
}

/// The crate whose manifest this is. `python` stands beside the crates: it is a Python project first.
fn crate_of(manifest: &str) -> Option<&str> {
    match manifest.strip_suffix("/Cargo.toml")? {
        "python" => Some("python"),
        folder => folder.strip_prefix("crates/"),
    }
}

fn check_manifest(file: &File, name: &str, findings: &mut Vec<Finding>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(krate, _)| *krate == name) else {
        let what =
            format!("`{name}` has no place among the arrows, give it one in crates/xtask/src/arch/crates.rs and docs/architecture.md");
        return findings.push(Finding::new(&file.path, 1, "crate-arrow", what));
    };
    for (dependency, line) in dependencies(&file.text) {
        if let Some(ours) = dependency.strip_prefix("gatewright-")
            && ours != name
            && !allowed.contains(&ours)
        {
            let what = format!("{name} may not depend on {ours}, move what it needs below both or pass it in");
            findings.push(Finding::new(&file.path, line, "crate-arrow", what));
        }
        for (owners, fenced) in FENCES {
            if fenced.contains(&dependency.as_str()) && !owners.contains(&name) {
                let what = format!("only crates/{} names {dependency}, call that crate instead", owners.join(" and crates/"));
                findings.push(Finding::new(&file.path, line, "fence", what));
            }
        }
    }
}

fn check_lock(lock: &File, findings: &mut Vec<Finding>) {
    for (at, line) in lock.text.lines().enumerate() {
        for (banned, remedy) in BANNED {
            if line.strip_prefix("name = ").is_some_and(|name| name.trim_matches('"') == *banned) {
                let what = format!("{banned} is in the tree (`cargo tree -i {banned}` says why), {remedy}");
                findings.push(Finding::new(&lock.path, at + 1, "banned-crate", what));
            }
        }
    }
}

/// Every dependency a manifest names, under its real name, with the line that names it.
fn dependencies(manifest: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[').map(|rest| rest.trim_end_matches(']')) {
            let parts: Vec<&str> = section.split('.').collect();
            let here = parts.iter().position(|part| part.ends_with("dependencies"));
            inside = here.is_some_and(|n| n + 1 == parts.len());
            if let Some(name) = here.and_then(|n| parts.get(n + 1)) {
                found.push(((*name).to_owned(), at + 1));
            }
        } else if inside && let Some((key, value)) = line.split_once('=') {
            if line.starts_with('#') {
                continue;
            }
            let key = key.split('.').next().unwrap_or(key).trim().trim_matches('"');
            found.push((renamed(value).unwrap_or(key).to_owned(), at + 1));
        }
    }
    found
}

fn renamed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    rest.trim_start().strip_prefix('=')?.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::findings;

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let up = ("crates/jose/Cargo.toml", "[dependencies]\ngatewright-base.workspace = true\ngatewright-server.workspace = true\n");
        assert_eq!(findings(&[up]), ["crates/jose/Cargo.toml:3 crate-arrow"]);
        let down = ("crates/server/Cargo.toml", "[dependencies]\ngatewright-db.workspace = true\n[dev-dependencies.gatewright-jose]\n");
        assert!(findings(&[down]).is_empty());
    }

    #[test]
    fn the_python_module_is_a_crate_like_the_others() {
        let server = ("python/Cargo.toml", "[dependencies]\ngatewright-guard.workspace = true\ngatewright-server.workspace = true\n");
        assert_eq!(findings(&[server]), ["python/Cargo.toml:3 crate-arrow"]);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(findings(&[("crates/shed/Cargo.toml", "[package]\n")]), ["crates/shed/Cargo.toml:1 crate-arrow"]);
    }

    #[test]
    fn a_fenced_dependency_is_found_under_any_name() {
        let plain = ("crates/server/Cargo.toml", "[dependencies]\nrusqlite.workspace = true\n");
        assert_eq!(findings(&[plain]), ["crates/server/Cargo.toml:2 fence"]);
        let renamed = ("crates/jose/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nweb = { package = \"axum\", version = \"0.8\" }\n");
        assert_eq!(findings(&[renamed]), ["crates/jose/Cargo.toml:2 fence"]);
        let owner = ("crates/db/Cargo.toml", "[dependencies]\nrusqlite.workspace = true\ntokio-postgres = \"0.7\"\n");
        assert!(findings(&[owner]).is_empty());
        for (manifest, is_clean) in
            [("crates/guard/Cargo.toml", true), ("crates/server/Cargo.toml", false), ("crates/jose/Cargo.toml", false)]
        {
            assert_eq!(findings(&[(manifest, "[dependencies]\nureq.workspace = true\n")]).is_empty(), is_clean, "{manifest}");
        }
        for (manifest, is_clean) in
            [("crates/guard/Cargo.toml", true), ("crates/server/Cargo.toml", true), ("crates/jose/Cargo.toml", false)]
        {
            assert_eq!(findings(&[(manifest, "[dependencies]\naxum.workspace = true\n")]).is_empty(), is_clean, "{manifest}");
        }
    }

    #[test]
    fn a_banned_crate_is_found_in_the_lock_file() {
        let lock =
            ("Cargo.lock", "[[package]]\nname = \"rsa\"\n\n[[package]]\nname = \"rsa-tools\"\n[[package]]\nname = \"openssl-sys\"\n");
        assert_eq!(findings(&[lock]), ["Cargo.lock:2 banned-crate", "Cargo.lock:7 banned-crate"]);
    }
}
