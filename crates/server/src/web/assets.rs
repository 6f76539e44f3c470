//! The static files of our own pages, inside the binary. A name carries the hash of its content, so it can be cached for ever.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// One embedded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    pub content_type: &'static str,
    pub bytes: &'static [u8],
    /// The name changes with the content: `Cache-Control: public, max-age=31536000, immutable`.
    pub immutable: bool,
}

/// The file at a path such as `/assets/gate.0123456789.css`.
pub fn find_asset(path: &str) -> Option<Asset> {
    if path == FAVICON_PATH {
        return Some(Asset { immutable: false, ..files().iter().find(|file| file.name == "favicon.svg")?.asset });
    }
    files().iter().find(|file| file.href == path).map(|file| file.asset)
}

/// Where the file `name` (such as `gate.css`) is served.
pub fn find_href(name: &str) -> Option<&'static str> {
    files().iter().find(|file| file.name == name).map(|file| file.href.as_str())
}

/// Name of a stylesheet made at run time, such as the brand's: `/assets/brand.<hash>.css`.
pub fn hashed_href(stem: &str, extension: &str, bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("/assets/{stem}.{hash}.{extension}")
}

/// What browsers ask for when a page names no icon, an API answer for instance.
pub const FAVICON_PATH: &str = "/favicon.svg";

struct File {
    name: &'static str,
    href: String,
    asset: Asset,
}

fn files() -> &'static [File] {
    static FILES: LazyLock<Vec<File>> = LazyLock::new(|| SOURCES.iter().map(|(name, bytes)| embed(name, bytes)).collect());
    &FILES
}

const SOURCES: &[(&str, &[u8])] = &[
    ("gate.css", include_bytes!("assets/gate.css")),
    ("factors.css", include_bytes!("assets/factors.css")),
    ("security.css", include_bytes!("assets/security.css")),
    ("inbox.css", include_bytes!("assets/inbox.css")),
    ("reveal.js", include_bytes!("assets/reveal.js")),
    ("copy.js", include_bytes!("assets/copy.js")),
    ("passkey.css", include_bytes!("assets/passkey.css")),
    ("passkey.js", include_bytes!("assets/passkey.js")),
    ("pk.js", include_bytes!("assets/pk.js")),
    ("proof.js", include_bytes!("assets/proof.js")),
    ("proof_worker.js", include_bytes!("assets/proof_worker.js")),
    ("favicon.svg", include_bytes!("assets/favicon.svg")),
];

fn embed(name: &'static str, bytes: &'static [u8]) -> File {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let content_type = match extension {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    };
    File { name, href: hashed_href(stem, extension, bytes), asset: Asset { content_type, bytes, immutable: true } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_ten_hex_digits_of_its_content() {
        let href = find_href("gate.css").expect("embedded");
        let hash = href.strip_prefix("/assets/gate.").and_then(|rest| rest.strip_suffix(".css")).expect("shape");
        assert!(hash.len() == 10 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{href}");
        assert_eq!(hashed_href("empty", "css", b""), "/assets/empty.e3b0c44298.css");
    }

    #[test]
    fn only_the_exact_hashed_path_is_served() {
        assert!(
            find_asset(find_href("copy.js").expect("embedded"))
                .is_some_and(|asset| asset.immutable && asset.content_type.starts_with("text/javascript"))
        );
        assert!(find_asset(FAVICON_PATH).is_some_and(|asset| !asset.immutable));
        for path in ["/assets/gate.css", "/assets/gate.0000000000.css", "/assets/../Cargo.toml", "gate.css", ""] {
            assert_eq!(find_asset(path), None, "{path}");
        }
    }

    #[test]
    fn each_stylesheet_stays_within_ten_kilobytes() {
        for name in ["gate.css", "security.css"] {
            let size = find_asset(find_href(name).expect("embedded")).expect("served").bytes.len();
            assert!(size <= 10_240, "{name} has {size} bytes");
        }
    }
}
