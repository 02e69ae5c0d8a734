//! The command line: what may be typed, and which module does it.

mod background;
mod connect;
mod doctor;
mod log;
mod login;
mod output;
mod serve;
mod service;
mod why;

use clap::{Args, Parser, Subcommand};
use output::{Output, Screen};
use postern_client::{Client, place};
use postern_protocol::local::State;
use postern_protocol::{AppName, Problem};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reach your organisation's private apps: sign in once, and every request is verified.
#[derive(Debug, Parser)]
#[command(name = "postern", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which agent is meant.
#[derive(Clone, Debug, Args)]
struct Place {
    /// Directory of the agent's socket and settings; each has its own agent [default: ~/.local/state/postern]
    #[arg(long, global = true, env = "POSTERN_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Configuration of an agent that starts [default: config.toml in the state directory]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in at a relay and go online
    Login(login::LoginArgs),
    /// Show who is signed in and whether the relay is reached
    Status(Format),
    /// List your apps and where they are on this machine
    Apps(Format),
    /// Carry a tcp app over standard input and output, as ssh's ProxyCommand does
    Connect {
        /// The app
        app: AppName,
    },
    /// Tell why the last request was refused, or the one with this decision
    Why(why::WhyArgs),
    /// Examine the agent, this device and the way to the relay, and say what to do
    ///
    /// Exit status 1 if something does not work. Works without an agent too.
    Doctor(doctor::DoctorArgs),
    /// Sign out and forget this device's key
    ///
    /// Exit status 0 as soon as nothing of the session is left on this device. Whoever could not be told of it, relay or
    /// provider, is named on standard error, or as `untold` with --json: run again, there would be nothing left to tell.
    Logout(Format),
    /// The background agent
    #[command(subcommand)]
    Agent(AgentCommand),
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Run the agent here until it is stopped
    Run {
        /// Write to agent.log and outlive the terminal: how `postern login` starts it
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Start the agent in the background, if none runs
    Start,
    /// Stop the agent that runs in the background
    Stop,
    /// Have the agent start whenever you sign in to this machine, and start it now
    Install,
    /// Stop the agent that was installed, and no longer start it
    Uninstall,
    /// Show whether an agent runs here, and whether it starts by itself
    Status(Format),
}

#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The whole program. Exit status 0: done; 1: refused or failed; 2: wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help for `| head` need not be read to its end.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::standard(cli.command.wants_json());
    match run(cli, &output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            output.problem(&problem);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Self::Login(login) => login.format.json,
            Self::Why(why) => why.format.json,
            Self::Doctor(doctor) => doctor.format.json,
            Self::Status(format) | Self::Apps(format) | Self::Logout(format) => format.json,
            Self::Agent(AgentCommand::Status(format)) => format.json,
            Self::Connect { .. } | Self::Agent(_) => false,
        }
    }
}

/// `false`: done, and what was found is not well.
fn run(cli: Cli, output: &Output) -> Result<bool, Problem> {
    // Everything below finds the same cryptography, whichever crate asks first. It can be set only once.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // One thread: measured a third faster than two that steal work from each other, and enough for one user.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(postern_protocol::Code::Internal).detail(error.to_string()))?;
    let result = runtime.block_on(perform(cli, output));
    // A read of standard input that nobody ends must not keep the program.
    runtime.shutdown_background();
    result
}

async fn perform(cli: Cli, output: &Output) -> Result<bool, Problem> {
    let state_dir = match &cli.place.state_dir {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        None => place::default_path()?,
    };
    let config = cli.place.config.as_deref();
    if let Command::Doctor(args) = &cli.command {
        return doctor::run(args, &state_dir, config, output).await;
    }
    let done = match cli.command {
        // Done above.
        Command::Doctor(_) => Ok(()),
        Command::Login(login) => login::run(login, &state_dir, config, output).await,
        Command::Status(_) => {
            let status = client(&state_dir)?.status().await?;
            output.data(&status, |screen: &Screen| screen.status(&status))
        }
        Command::Apps(_) => {
            let apps = client(&state_dir)?.apps().await?;
            output.data(&apps, |screen: &Screen| screen.apps(&apps.apps))
        }
        Command::Connect { app } => connect::run(&client(&state_dir)?, &app).await,
        Command::Why(args) => {
            let denial = why::run(&args, &client(&state_dir)?).await?;
            output.data(&denial, |screen: &Screen| screen.denial(denial.as_ref()))
        }
        Command::Logout(_) => {
            let client = client(&state_dir)?;
            let nobody = client.status().await?.state == State::SignedOut;
            output.signed_out(&client.logout().await?, nobody)
        }
        Command::Agent(AgentCommand::Run { detached }) => serve::run(&state_dir, config, detached).await,
        Command::Agent(AgentCommand::Start) => background::ensure_told(&state_dir, config, output).await,
        Command::Agent(AgentCommand::Install) => service::install(&state_dir, config, output).await,
        Command::Agent(AgentCommand::Uninstall) => service::uninstall(&state_dir, config, output).await,
        Command::Agent(AgentCommand::Status(_)) => {
            let state = service::state(&state_dir, config).await?;
            output.data(&state, |screen: &Screen| screen.service(&state))
        }
        Command::Agent(AgentCommand::Stop) => background::stop(&state_dir, output).await,
    };
    done.map(|()| true)
}

/// A client of the agent in `state_dir`, unless somebody else could have put a socket there.
fn client(state_dir: &Path) -> Result<Client, Problem> {
    if state_dir.exists() {
        place::check(state_dir)?;
    }
    Ok(Client::new(state_dir))
}

#[cfg(test)]
mod tests;
