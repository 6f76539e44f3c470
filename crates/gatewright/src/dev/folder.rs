//! The data folder of `gatewright dev`: database, master key, the keys of its environments, `dev.env`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gatewright_jose::{MasterKey, SystemRng};
use gatewright_server::Config;
use serde::{Deserialize, Serialize};

use crate::configuration;
use crate::failure::Failure;

const KEPT: &str = "dev.json";
const MASTER_KEY: &str = "master.key";
const ENVIRONMENT: &str = "dev.env";

/// The folder; a temporary one is removed with this value.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

/// What must be the same at the next start. Dev keys only: `serve` refuses them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub url: String,
    pub database_url: String,
    pub cookie_password: String,
    pub environments: Vec<KeptEnvironment>,
    pub users: Vec<KeptUser>,
    pub overrides: Overrides,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct KeptEnvironment {
    pub name: String,
    pub api_key: String,
    pub client_id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct KeptUser {
    pub email: String,
    pub password: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

/// Settings given on the command line.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Overrides {
    pub access_token_seconds: Option<u32>,
    pub refresh_replay_seconds: Option<u32>,
    pub key_publish_seconds: Option<u32>,
}

impl Folder {
    /// The folder at `path`, made if it is missing, for its owner only.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| refused(path, &error))?;
        }
        let folder = Self { path: path.to_owned(), temporary: None };
        let ignore = folder.path.join(".gitignore");
        if !ignore.exists() {
            // Keys and mails are not for the app's repository.
            write(&ignore, "*\n")?;
        }
        Ok(folder)
    }

    pub fn temporary() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("gatewright-")
            .tempdir()
            .map_err(|error| Failure::new(format!("no temporary folder: {error}; set TMPDIR to a writable one")))?;
        Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) })
    }

    /// A folder that `gatewright dev` filled before.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if !path.join(KEPT).is_file() {
            return Err(Failure::usage(format!(
                "--data: {} is no data folder of gatewright dev; start gatewright dev --data there first",
                path.display()
            )));
        }
        Ok(Self { path: path.to_owned(), temporary: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub fn sqlite_url(&self) -> String {
        format!("sqlite:{}", self.path.join("gatewright.db").display())
    }

    /// The configuration of the server that keeps its data here.
    pub fn config(&self) -> Result<Config, Failure> {
        let kept = self.load_kept()?;
        let mut config = Config { public_url: kept.url, dev: true, ..Config::default() };
        config.database.url = kept.database_url;
        Ok(config)
    }

    pub fn load_master_key(&self) -> Result<MasterKey, Failure> {
        configuration::read_master_key(&self.path.join(MASTER_KEY))
    }

    pub fn load_or_make_master_key(&self) -> Result<MasterKey, Failure> {
        let path = self.path.join(MASTER_KEY);
        if !path.exists() {
            write(&path, &format!("{}\n", MasterKey::generate(&SystemRng).to_text().reveal()))?;
        }
        self.load_master_key()
    }

    /// What the last start kept; nothing at the first.
    pub fn load_kept(&self) -> Result<Kept, Failure> {
        let path = self.path.join(KEPT);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(error) => return Err(refused(&path, &error)),
        };
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{}: is damaged: {error}; remove it, and new keys are made", path.display())))
    }

    pub fn keep(&self, kept: &Kept) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(kept).map_err(|error| Failure::new(format!("dev.json: {error}; this is a defect, report it")))?;
        write(&self.path.join(KEPT), &text)
    }

    pub fn environment_file(&self) -> PathBuf {
        self.path.join(ENVIRONMENT)
    }

    pub fn write_environment_file(&self, variables: &[(&'static str, String)]) -> Result<(), Failure> {
        let mut text = "# Written by gatewright dev. The keys work with that server only; gatewright serve refuses them.\n".to_owned();
        for (name, value) in variables {
            text.push_str(&format!("{name}={value}\n"));
        }
        write(&self.environment_file(), &text)
    }
}

/// Puts `text` in place of the file at once, readable by its owner only.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_file_name(format!("{}.{}.new", path.file_name().unwrap_or_default().to_string_lossy(), std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    });
    written.map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "--data: {} cannot be used: {}; choose a folder that you may write to",
        path.display(),
        crate::serve::plain(error)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_for_their_owner_and_stay_the_same() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        let folder = Folder::make(&path).unwrap();
        let key = folder.load_or_make_master_key().unwrap();
        assert_eq!(folder.load_or_make_master_key().unwrap().fingerprint(), key.fingerprint());
        let kept = Kept { url: "http://localhost:1".into(), ..Kept::default() };
        folder.keep(&kept).unwrap();
        assert_eq!(Folder::open(&path).unwrap().load_kept().unwrap().url, kept.url);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(MASTER_KEY)), mode(&path.join(KEPT))), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_folder_without_data_is_refused_in_one_line() {
        let outer = tempfile::tempdir().unwrap();
        let message = Folder::open(outer.path()).unwrap_err().message().to_owned();
        assert!(message.starts_with("--data: ") && message.contains("; "), "{message}");
    }
}
