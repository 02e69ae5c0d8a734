//! `postern login`: starts an agent if none runs, and tells the steps of the sign-in.

use super::output::{Output, Screen};
use super::{Format, background, client};
use clap::Args;
use postern_client::Client;
use postern_protocol::local::{LoginEvent, LoginMethod, LoginRequest, Status};
use postern_protocol::{Code, MAX_CONTROL_BYTES, Problem, problem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The relay: relay.example, relay.example:8443 or https://relay.example [default: the one of last time]
    address: Option<String>,
    /// Print the sign-in address as the first line instead of opening a browser
    #[arg(long)]
    no_browser: bool,
    /// Sign in with a code on any other device
    #[arg(long, conflicts_with = "no_browser")]
    device_code: bool,
    /// A further authority, in PEM, to trust for the relay's public address
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// While signed in: sign in again, to prolong the session. Nothing that is open is dropped
    #[arg(long)]
    renew: bool,
    /// Where there is no usable keyring, keep secrets in memory only
    #[arg(long)]
    memory_only: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn run(
    args: LoginArgs,
    state_dir: &Path,
    config: Option<&Path>,
    output: &Output,
) -> Result<(), Problem> {
    let mut request = LoginRequest {
        address: args.address,
        ca_pem: args.ca.as_deref().map(read_authority).transpose()?,
        method: match (args.no_browser, args.device_code) {
            (true, _) => LoginMethod::NoBrowser,
            (false, true) => LoginMethod::DeviceCode,
            (false, false) => LoginMethod::Browser,
        },
        allow_memory_only: args.memory_only,
        renew: args.renew,
        app: None,
    };
    background::ensure(state_dir, config, output).await?;
    let client = client(state_dir)?;
    let status = match sign_in(&client, &request, output).await {
        Err(problem) if !request.allow_memory_only && agrees_to_memory_only(&problem) => {
            request.allow_memory_only = true;
            sign_in(&client, &request, output).await?
        }
        other => other?,
    };
    output.data(&status, |screen: &Screen| screen.welcome(&status))
}

/// One attempt, step by step.
async fn sign_in(client: &Client, request: &LoginRequest, output: &Output) -> Result<Status, Problem> {
    let mut steps = client.login(request).await?;
    while let Some(step) = steps.next().await? {
        match step {
            LoginEvent::Authorize { url } if request.method == LoginMethod::NoBrowser => {
                output.line(url.as_str())?;
                output.progress("Open this address in a browser on this machine to sign in.");
            }
            LoginEvent::Authorize { url } => {
                output.progress("Your browser opens to sign you in. If it does not, open this address yourself:");
                output.progress(url.as_str());
            }
            LoginEvent::DeviceCode { verification_uri, verification_uri_complete, user_code, expires } => {
                output.line(verification_uri_complete.as_ref().unwrap_or(&verification_uri).as_str())?;
                output.line(&user_code)?;
                output.progress(&format!("Open this address on any device and enter the code, before {expires}."));
            }
            LoginEvent::SignedIn => output.progress("Signed in at the provider."),
            LoginEvent::KeyReady { storage } => output.progress(&format!("Device key ready, kept in: {storage}.")),
            LoginEvent::Enrolled { device } => output.progress(&format!("Device certificate issued: {device}.")),
            LoginEvent::Online { status } => return Ok(*status),
            LoginEvent::Failed { problem } => return Err(*problem),
        }
    }
    Err(Problem::new(Code::SignInCancelled).detail("the agent stopped"))
}

fn read_authority(path: &Path) -> Result<String, Problem> {
    let limit = MAX_CONTROL_BYTES as u64 / 2;
    let mut pem = String::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut pem));
    let unusable = |why: &str| Problem::new(Code::ConfigInvalid).detail(format!("--ca {}: {why}", path.display()));
    read.map_err(|error| unusable(&error.to_string()))?;
    if pem.len() as u64 > limit {
        return Err(unusable("it is too large for a certificate"));
    }
    match CertificateDer::from_pem_slice(pem.as_bytes()) {
        Ok(_) => Ok(pem),
        Err(_) => Err(unusable("it holds no certificate in PEM")),
    }
}

/// Asks the person at the terminal, if there is one, whether to do without a keyring.
fn agrees_to_memory_only(problem: &Problem) -> bool {
    let no_keyring = matches!(problem.code, Code::KeyringUnavailable | Code::KeyringLocked);
    if !no_keyring || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let told = problem::printable(problem.detail.as_deref().unwrap_or_default());
    let question = "Keep secrets in memory only? They are gone when the agent stops. [y/N] ";
    let _ = write!(io::stderr(), "{}. {told}\n{question}", problem.title);
    let mut answer = String::new();
    let read = io::stdin().lock().take(100).read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
