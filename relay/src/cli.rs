//! The command line of `postern-relay`.

mod audit;
mod listing;
mod output;
mod policy;
mod revoke;

use crate::clock::Clock;
use crate::config::{self, Fault, Outline};
use crate::store::StoreError;
use crate::{init, serve};
use clap::{Args, Parser, Subcommand};
use output::Output;
use policy::PolicyCommand;
use postern_protocol::{Code, Problem};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The relay of Postern: verifies every request to your private apps.
#[derive(Parser)]
#[command(name = "postern-relay", version, arg_required_else_help = true, after_help = AFTER)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Exit status: 0 success, 1 refused or failed, 2 wrong usage.\n\
Data goes to stdout, everything else to stderr. POSTERN_LOG chooses what is logged (info).";

#[derive(Args)]
struct Common {
    /// Configuration file [default: ./relay.toml, then /etc/postern/relay.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR", env = "POSTERN_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make a directory with configuration, sample policy, authorities and keys
    Init {
        /// Where; nothing there is overwritten
        dir: PathBuf,
    },
    /// Tell every mistake in configuration, policy and keys, with file, line and remedy
    Check,
    /// Run the relay
    Serve,
    /// Withdraw access: effective on the next request, live streams are cut
    Revoke {
        #[command(subcommand)]
        what: Revocable,
    },
    /// Take the revocation of a user or device back
    Restore {
        #[command(subcommand)]
        what: Restorable,
    },
    /// List the devices that have enrolled
    Devices,
    /// List the sessions that live
    Sessions {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
    },
    /// Work on the policy
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Work on the audit log
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

#[derive(Subcommand)]
enum Revocable {
    /// A user or service account: all its sessions on all devices, until restored
    User {
        /// E-mail address or subject if only one has it; else ISSUER SUBJECT
        #[arg(required = true, num_args = 1..=2, value_name = "ID")]
        id: Vec<String>,
    },
    /// A device, whoever uses it, until restored
    Device {
        /// As `postern-relay devices` shows it
        id: String,
    },
    /// One sign-in on one device
    Session {
        /// As `postern-relay sessions` shows it
        id: String,
    },
}

#[derive(Subcommand)]
enum Restorable {
    /// A user or service account
    User {
        /// E-mail address or subject if only one has it; else ISSUER SUBJECT
        #[arg(required = true, num_args = 1..=2, value_name = "ID")]
        id: Vec<String>,
    },
    /// A device
    Device {
        /// As `postern-relay devices` shows it
        id: String,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Prove that no line was changed, removed or put in; names the first that does not hold
    Verify {
        /// The log, instead of the configuration's. A copy elsewhere cannot be compared with what the relay remembers
        file: Option<PathBuf>,
        /// The public audit key, instead of audit.pub in the configuration's directory of keys
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Begin a new log; the old one is closed with a checkpoint and kept beside it
    Rotate,
    /// Print the newest records
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
        lines: usize,
        /// Go on as records are written
        #[arg(short, long)]
        follow: bool,
    },
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// Mistakes of configuration, policy or keys.
    Faults(Vec<Fault>),
    /// A refusal or failure, with its code.
    Problem(Problem),
    /// Everything was said already, as data.
    Said,
}

impl From<Vec<Fault>> for Failure {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Faults(faults)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        failed(Code::StoreUnavailable, error)
    }
}

/// A failure with this code, and what happened.
fn failed(code: Code, detail: impl std::fmt::Display) -> Failure {
    Failure::Problem(Problem::new(code).detail(detail.to_string()))
}

/// The same with advice that fits better than the code's own.
fn advised(code: Code, detail: impl std::fmt::Display, fix: &str) -> Failure {
    Failure::Problem(Problem::new(code).detail(detail.to_string()).advice(None, Some(fix.to_owned())))
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let output = Output { json: common.json };
    match run(&common, command, output) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Faults(faults)) => output.faults(&faults),
        Err(Failure::Problem(problem)) => output.problem(&problem),
        Err(Failure::Said) => {}
    }
    ExitCode::FAILURE
}

fn run(common: &Common, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Init { dir } => make(&dir, output),
        Command::Check => check(common, output),
        Command::Serve => {
            let (config, keys) = config::load(&common.config_file()?, common.state_dir.as_deref())?;
            Ok(runtime()?.block_on(serve::serve(config, keys, |ready| output.data(ready)))?)
        }
        Command::Revoke { what } => runtime()?.block_on(revoke::revoke(&common.outline()?, what, output)),
        Command::Restore { what } => runtime()?.block_on(revoke::restore(&common.outline()?, what, output)),
        Command::Devices => runtime()?.block_on(listing::devices(&common.outline()?, output)),
        Command::Sessions { all } => runtime()?.block_on(listing::sessions(&common.outline()?, all, output)),
        Command::Policy { command } => policy::run(common, command, output),
        Command::Audit { command: AuditCommand::Verify { file, key } } => {
            runtime()?.block_on(audit::verify(common, file, key, output))
        }
        Command::Audit { command: AuditCommand::Rotate } => {
            runtime()?.block_on(audit::rotate(&common.outline()?, output))
        }
        Command::Audit { command: AuditCommand::Tail { lines, follow } } => {
            audit::tail(&common.outline()?, lines, follow, output)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Runtime::new().map_err(|error| failed(Code::Internal, error))
}

impl Common {
    /// The configuration file: as given, or the first default that is there.
    fn config_file(&self) -> Result<PathBuf, Failure> {
        const DEFAULTS: [&str; 2] = ["relay.toml", "/etc/postern/relay.toml"];
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        let found = DEFAULTS.iter().map(PathBuf::from).find(|path| path.exists());
        found.ok_or_else(|| {
            let fix = "Give it with --config FILE, or make one: postern-relay init DIR";
            advised(Code::ConfigInvalid, "there is no ./relay.toml and no /etc/postern/relay.toml", fix)
        })
    }

    /// Where things are, for commands that must work although the configuration has mistakes elsewhere.
    fn outline(&self) -> Result<Outline, Failure> {
        Ok(config::outline(&self.config_file()?, self.state_dir.as_deref())?)
    }
}

fn make(dir: &Path, output: Output) -> Result<(), Failure> {
    init::init(dir, &Clock::new())
        .map_err(|error| advised(Code::ConfigInvalid, error, "Give a directory in which there is no relay yet."))?;
    let config = dir.join("relay.toml");
    if output.json {
        output.json(&serde_json::json!({ "directory": dir, "config": config }));
    } else {
        output.data(&config.display().to_string());
    }
    let shown = config.display();
    output.note(&format!(
        "Made a relay in {}: configuration, sample policy, authorities and keys.\n\
         Next: edit {shown} (your provider, your apps), then\n  \
         postern-relay check --config {shown}\n  \
         postern-relay serve --config {shown}",
        dir.display()
    ));
    Ok(())
}

fn check(common: &Common, output: Output) -> Result<(), Failure> {
    let file = common.config_file()?;
    match config::load(&file, common.state_dir.as_deref()) {
        Ok((config, _)) => {
            let (apps, policies) = (config.policy.apps().iter().count(), config.policy.len());
            output.checked(&[], &format!("{}: no mistakes; apps: {apps}, policies: {policies}", file.display()));
            Ok(())
        }
        Err(faults) => {
            output.checked(&faults, "");
            output.note(&format!("{} to correct", output::count(faults.len(), "mistake")));
            Err(Failure::Said)
        }
    }
}
