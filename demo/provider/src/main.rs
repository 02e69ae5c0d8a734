//! `postern-demo-provider`: the demo provider as a program of its own.

use clap::Parser;
use postern_demo_provider::{Config, Provider};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// An OpenID provider for demonstrations: everything in memory, passwords on the page, loopback only.
///
/// People: ada / lovelace (engineering), grace / hopper (finance). Native client: postern.
/// Service account: ci-runner / ci-runner-demo-secret.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Loopback address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What access tokens may be meant for (RFC 8707); the first is the default. May be given several times.
    #[arg(long, default_value = "urn:postern:demo")]
    resource: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let arguments = Arguments::parse();
    let provider = match Provider::bind(Config::demo(arguments.listen, arguments.resource)).await {
        Ok(provider) => provider,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("cannot listen for signals");
        return ExitCode::FAILURE;
    };
    let ready = serde_json::json!({ "event": "ready", "issuer": provider.issuer() });
    if writeln!(std::io::stdout().lock(), "{ready}").is_err() {
        return ExitCode::FAILURE;
    }
    provider
        .serve(async move {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        })
        .await;
    ExitCode::SUCCESS
}
