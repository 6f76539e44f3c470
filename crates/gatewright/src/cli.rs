use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

/// Identity for your API: sign-in pages, sessions, keys, and the WorkOS API on the wire.
#[derive(Debug, Parser)]
#[command(name = "gatewright", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = "Start with: gatewright dev")]
pub struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter such as info,gatewright_server=debug [env: GATEWRIGHT_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server for development: no configuration, demo users, an inbox for mails
    Dev(DevArgs),
    /// Run a server for production
    Serve(ServeArgs),
    /// Bring the database to this version
    Migrate(ConfigArgs),
    /// Check configuration, database, keys and mail, and say what to do about problems
    Doctor(Target),
    /// Print the API document (OpenAPI, JSON)
    Openapi,
    /// Routes of a Python app
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Signing keys of access tokens
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Environments: their settings, API keys, redirects and the order of roles
    #[command(subcommand)]
    Environments(EnvironmentsCommand),
    /// Organizations: how their people may sign in
    #[command(subcommand)]
    Organizations(OrganizationsCommand),
    /// Act as a user for support: by name, for a reason, for an hour at most
    #[command(subcommand)]
    Impersonations(ImpersonationsCommand),
    /// List every identity that is no person, and mark those that ask for attention
    ///
    /// Keys of environments, API keys of organizations and users, and clients, each with owner, age, last use and expiry. Marks: idle
    /// (nobody uses it), old (its secret was made long ago), ownerless (its user is no active member of the organization). Shows no
    /// secrets. Ends with 0 whether or not something is marked, with 1 or 2 when it could not look.
    #[command(
        after_help = "Examples:\n  gatewright identities --data .gatewright\n  gatewright identities --marked --json | jq -r '.[].id'"
    )]
    Identities(IdentitiesArgs),
    /// End sessions, users and keys of its own, and measure how soon a server and an app refuse them
    ///
    /// Rehearses sign-out, revocation, deletion, deactivation, theft, expiry and key rotation against a running server, and against an app
    /// when one is given. Reads WORKOS_API_KEY, WORKOS_CLIENT_ID and WORKOS_COOKIE_PASSWORD as gatewright dev writes them to dev.env. What it
    /// makes, it removes. Ends with 0 when all was within the bound, with 1 when a check failed, with 2 when it could not run.
    #[command(after_help = "Example:\n  set -a; . .gatewright/dev.env\n  gatewright drill --app http://localhost:8000 --markdown drill.md")]
    Drill(DrillArgs),
    /// Print where sign-in, sessions, tokens, keys and secrets live in this deployment: a page for reviewers
    Boundary(BoundaryArgs),
    /// What happened and who did it, and the proof that nobody changed the record
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The key that seals what the database must not show
    #[command(subcommand)]
    MasterKey(MasterKeyCommand),
}

/// Run a server for development: no configuration, demo users, an inbox for mails.
///
/// It answers on this machine only. Its keys lie in the data folder and are refused by `gatewright serve`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Port on localhost; 0 takes a free one
    #[arg(long, default_value_t = 4700)]
    pub port: u16,
    /// Folder for the database, the keys and dev.env
    #[arg(long, default_value = ".gatewright", value_name = "FOLDER")]
    pub data: PathBuf,
    /// Use this database instead of a SQLite file in the data folder
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Users, organizations, feature flags, resource types and redirects to begin with (TOML or JSON)
    #[arg(long, value_name = "FILE")]
    pub seed: Option<PathBuf>,
    /// Keep nothing: work in a temporary folder that is removed at the end
    #[arg(long, conflicts_with = "data")]
    pub ephemeral: bool,
    /// Print one line of JSON when ready instead of the welcome
    #[arg(long)]
    pub json: bool,
    /// Lifetime of access tokens [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub access_token_seconds: Option<u32>,
    /// How long a just-replaced refresh token gives the same pair again [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub refresh_replay_seconds: Option<u32>,
    /// How long a new signing key is published before it may sign [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub key_publish_seconds: Option<u32>,
    /// Switch all rate limits off
    #[arg(long)]
    pub no_rate_limits: bool,
    /// Your app: started with the settings it needs, stopped with the server
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check the configuration and end
    #[arg(long, conflicts_with = "migrate")]
    pub check: bool,
    /// Bring the database to this version first
    #[arg(long)]
    pub migrate: bool,
}

#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file; every key is also an environment variable, such as GATEWRIGHT_PUBLIC_URL [default: gatewright.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Which server's data a command works on.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// Configuration file of a server [default: gatewright.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder of `gatewright dev` instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub data: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct EnvironmentArgs {
    /// Name or id of the environment [default: the only one there is]
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    /// Prove that every route is guarded or declared public: routes audit app.main:app. Runs in the app's Python
    #[command(disable_help_flag = true)]
    Audit {
        /// The app as module:attribute, and options; --help lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "APP")]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List signing keys with state and age
    List(EnvironmentArgs),
    /// Let the waiting key sign and publish a new waiting one
    Rotate(EnvironmentArgs),
    /// Drop a key that somebody else may hold: what it signed is refused from now on
    Revoke {
        kid: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Args, Clone, Debug)]
pub struct IdentitiesArgs {
    /// Name or id of one environment [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<String>,
    /// Mark as idle what was not used for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub idle_days: u32,
    /// Mark as old a secret that was made so many days ago
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub old_days: u32,
    /// Show only what is marked
    #[arg(long)]
    pub marked: bool,
    /// Print a JSON array instead of the table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Args, Debug)]
pub struct DrillArgs {
    /// Where the server answers [default: WORKOS_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// An app behind the guard, to measure there too
    #[arg(long, value_name = "URL")]
    pub app: Option<String>,
    /// The app's route to ask as a person [default: found in its /openapi.json, such as /auth/me]
    #[arg(long, value_name = "PATH")]
    pub route: Option<String>,
    /// The app's route to ask with API keys [default: found in its /openapi.json]
    #[arg(long, value_name = "PATH")]
    pub api_key_route: Option<String>,
    /// A permission that route wants; may be given several times
    #[arg(long, value_name = "SLUG")]
    pub api_key_permission: Vec<String>,
    /// The app's session cookie
    #[arg(long, value_name = "NAME", default_value = "wos_session")]
    pub cookie_name: String,
    /// How soon an end must be felt
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub bound: f64,
    /// Wait no longer than this for anything
    #[arg(long, value_name = "SECONDS", default_value_t = 360.0)]
    pub max_wait: f64,
    /// Rehearse this only; may be given several times
    #[arg(long, value_name = "CHECK", value_enum)]
    pub only: Vec<crate::drill::Name>,
    /// Count what was not run as a failure
    #[arg(long)]
    pub require_all: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// With the configuration or the data folder of the server its signing key is turned once, which takes an operator's rights
    #[command(flatten)]
    pub target: Target,
}

#[derive(Args, Debug)]
pub struct BoundaryArgs {
    /// Write the page as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the page as Markdown [default: print it]
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries, newest first: events, and (marked *) the platform's own
    #[command(
        after_help = "Examples:\n  gatewright audit list --events environment_key.created,environment_key.revoked\n  gatewright audit list --since 2026-01-31 --limit 1000 --json | jq -r .event"
    )]
    List(AuditListArgs),
    /// Look at every entry and name those that were changed, taken out, put in or moved in the database
    ///
    /// Works beside a running server and locks nothing. Ends with 0 when all is as the server wrote it, with 1 when it is not or when
    /// it could not look.
    Verify(AuditVerifyArgs),
}

#[derive(Args, Clone, Debug)]
pub struct AuditListArgs {
    /// Name or id of one environment [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<String>,
    /// Only these names, such as authentication.password_failed,user.deleted
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub events: Vec<String>,
    /// Only what is about this organization
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// Only what happened then or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what happened earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// At most so many of each environment
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Args, Clone, Debug)]
pub struct AuditVerifyArgs {
    /// Name or id of one environment [default: all]
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<String>,
    /// Print one JSON object for each environment
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Subcommand)]
pub enum EnvironmentsCommand {
    /// Make an environment with a client and an API key, which is shown this once
    Create {
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// List environments with their clients
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show settings, or change them: environments set access_token_seconds=600 sign_up=false
    Set {
        /// KEY=VALUE; without any, the settings are shown
        #[arg(value_name = "KEY=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Where a sign-in may return to
    #[command(subcommand)]
    RedirectUris(RedirectsCommand),
    /// Where a sign-out may return to
    #[command(subcommand)]
    SignOutRedirects(RedirectsCommand),
    /// API keys of an environment
    #[command(subcommand)]
    ApiKeys(ApiKeysCommand),
    /// The order of an environment's roles, and the one that members have for whom none is named
    #[command(subcommand)]
    Roles(RolesCommand),
}

#[derive(Debug, Subcommand)]
pub enum OrganizationsCommand {
    /// Show what an organization asks of a sign-in, or change it: organizations policy org_.. mfa=required password=false
    ///
    /// It can only be stricter than the environment, whose own policy is set by environments set. What is none is left to the environment.
    #[command(
        after_help = "Examples:\n  gatewright organizations policy org_01HXYZ mfa=required session_seconds=28800\n  gatewright organizations policy acme --domain acme.com password=false\n  gatewright organizations policy acme mfa=none"
    )]
    Policy {
        /// Id or external id
        organization: String,
        /// KEY=VALUE; without any, the policy is shown
        #[arg(value_name = "KEY=VALUE")]
        changes: Vec<String>,
        /// The policy of everybody with an address at this domain of the organization instead
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum ImpersonationsCommand {
    /// Make a link with which somebody acts as a user; it works once, within ten minutes, and is shown this once
    #[command(
        after_help = "Example:\n  gatewright impersonations start user_01HX --impersonator sam@example.com --reason \"Ticket 4711: empty report\""
    )]
    Start(StartImpersonationArgs),
    /// End one at once: its link, its code and its session
    End {
        /// Id of the impersonation, as shown when it was started
        id: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Args, Clone, Debug)]
pub struct StartImpersonationArgs {
    /// Id of the user to act as
    pub user: String,
    /// Who acts, by address: named in every token and in the audit log
    #[arg(long, value_name = "EMAIL")]
    pub impersonator: String,
    /// Why, in 1 to 500 characters
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Organization to act in; needed where the user is in several
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// How long from the confirmation on, 60 to 3600 [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    pub duration_seconds: Option<u32>,
    /// Where the sign-in returns to [default: the environment's default redirect URI]
    #[arg(long, value_name = "URI")]
    pub redirect_uri: Option<String>,
    /// The app to sign in to [default: the environment's first client]
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    #[command(flatten)]
    pub environment: EnvironmentArgs,
}

#[derive(Debug, Subcommand)]
pub enum RedirectsCommand {
    /// Allow a URI
    Add {
        uri: String,
        /// Use it when an app names none
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// List allowed URIs
    List {
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Allow a URI no longer
    Remove {
        uri: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum ApiKeysCommand {
    /// Make an API key, which is shown this once
    Create {
        name: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// List API keys
    List {
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Refuse an API key from now on
    Revoke {
        /// Id of the key, as listed
        id: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum RolesCommand {
    /// List roles, the highest first
    List {
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Put roles in front, the highest first; those not named follow as they stand
    Order {
        /// Slugs
        #[arg(required = true, value_name = "ROLE")]
        roles: Vec<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Give this role to members for whom none is named, from now on
    Default {
        /// Slug
        role: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum MasterKeyCommand {
    /// Print a new master key
    New,
}

/// What the arguments ask for.
pub enum Parsed {
    Run(Box<Cli>),
    /// Help or the version, already printed.
    Shown,
}

/// Reads the arguments; a mistake becomes one line.
pub fn parse() -> Result<Parsed, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Parsed::Run(Box::new(cli))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed pipe (gatewright --help | head) is no failure.
            let _ = error.print();
            Ok(Parsed::Shown)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Err(Failure::usage("no command given; start with gatewright dev"))
        }
        Err(error) => Err(Failure::usage(one_line(&error.to_string()))),
    }
}

/// Clap's paragraphs up to the usage, joined: what is wrong, then its tip.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let parts: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let joined = parts.join("; ").replace("tip: ", "").replace(":; ", ": ");
    let what = joined.strip_prefix("error: ").unwrap_or(&joined);
    format!("{what}; see --help")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn refusal(arguments: &[&str]) -> String {
        one_line(&Cli::try_parse_from(arguments).unwrap_err().to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_one_line() {
        let line = refusal(&["gatewright", "dev", "--prot", "1"]);
        assert!(line.contains("--prot") && line.contains("--port") && !line.contains('\n'), "{line}");
        let line = refusal(&["gatewright", "dev", "--port", "many"]);
        assert!(line.contains("many") && line.contains("--port") && !line.contains('\n'), "{line}");
        let line = refusal(&["gatewright", "sreve"]);
        assert!(line.contains("sreve") && line.contains("serve"), "{line}");
    }

    #[test]
    fn everything_after_two_dashes_is_the_apps() {
        let cli = Cli::try_parse_from(["gatewright", "dev", "--json", "--", "app", "--port", "1"]).unwrap();
        let Command::Dev(args) = cli.command else { panic!("not dev") };
        assert_eq!((args.json, args.port, args.command), (true, 4700, vec!["app".into(), "--port".into(), "1".into()]));
    }

    #[test]
    fn what_the_audit_is_told_is_for_the_audit() {
        let cli = Cli::try_parse_from(["gatewright", "routes", "audit", "--probe", "app.main:app", "--help", "--format", "json"]).unwrap();
        let Command::Routes(RoutesCommand::Audit { arguments }) = cli.command else { panic!("not the audit") };
        assert_eq!(arguments, ["--probe", "app.main:app", "--help", "--format", "json"]);
    }
}
