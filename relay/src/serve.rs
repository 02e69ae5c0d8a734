//! `serve`: from a checked configuration to a running relay, and back down in good order.

use crate::admin::AdminSocket;
use crate::assemble::assemble;
use crate::audit_log::plain;
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::{Authority, Keys};
use crate::revoke::change;
use crate::server_tls::{self, Certificate};
use crate::state::Relay;
use crate::store::CHANGED_CLAIMS;
use crate::transport::ResetKey;
use crate::{log, public, reload, transport};
use postern_protocol::control::CONTROL_AUTHORITY;
use postern_protocol::{Code, Problem};
use postern_relay_core::audit::Event;
use postern_relay_core::policy::SHA256_IS;
use postern_relay_core::revocation::Target;
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Name of the file whose lock a running relay holds.
const LOCK: &str = "relay.lock";
/// How long what is in flight may take to end; the QUIC endpoint keeps a shorter time by itself.
const DRAIN: Duration = Duration::from_secs(15);
/// How often what is forgotten in time is looked through.
const TIDY: Duration = Duration::from_secs(60);
/// A clock that is this far ahead of the system's is worth a word.
const ASTRAY: Duration = Duration::from_secs(60);

/// The right to use a state directory: one relay, or one command that writes while none runs.
pub struct StateLock(#[expect(dead_code, reason = "held, not read: the lock ends with it")] File);

impl StateLock {
    /// Takes it, or says who has it.
    pub fn take(state_dir: &Path) -> Result<Self, Problem> {
        let path = state_dir.join(LOCK);
        let failed =
            |error: std::io::Error| Problem::new(Code::StateDir).detail(format!("{}: {error}", path.display()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let detail = format!("another relay uses the state directory {}", state_dir.display());
                let fix = "Stop it, or give another directory with --state-dir.".to_owned();
                Err(Problem::new(Code::StateDir).detail(detail).advice(None, Some(fix)))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Runs the relay until SIGTERM or SIGINT. `ready` gets one line of JSON once everything listens.
pub async fn serve(config: Config, keys: Keys, ready: impl FnOnce(&str)) -> Result<(), Problem> {
    log::start()?;
    let state_dir = config.state_dir.clone();
    make_state_dir(&state_dir)?;
    let _lock = StateLock::take(&state_dir)?;
    let stop = stop_signals().map_err(internal)?;
    let listening = Listening::open(&config, &keys).await?;
    let running = start(config, keys, &listening).await?;
    let admin = AdminSocket::bind(&state_dir)
        .map_err(|error| Problem::new(Code::StateDir).detail(format!("the admin socket: {error}")))?;
    let relay = running.relay.clone();
    let version = concat!("postern-relay ", env!("CARGO_PKG_VERSION"));
    let detail = format!("{version}; {SHA256_IS}{}", relay.config.policy.thumbprint());
    let started = plain(Event::Start, relay.clock.now(), detail);
    relay.audit.record(started).await?;
    ready(&listening.line());
    tracing::info!(issuer = %listening.issuer_text, public = %listening.public, quic = %listening.quic.local_addr(), "the relay serves");

    let ended = CancellationToken::new();
    let mut helpers = tokio::spawn(keep(running.upkeep, admin, relay.clone()));
    let saving = tokio::spawn(save_checkpoints(relay.clone()));
    let Listening { tcp, quic, .. } = listening;
    let bounds = public::Bounds::new(relay.config.limits.connections);
    let mut public = tokio::spawn(public::serve(tcp, running.public_tls, running.router, bounds, ended.clone()));
    let mut devices = tokio::spawn(quic.serve(relay.clone(), ended.clone()));
    // Each of them ends only when told to: a relay of which a part is gone stops rather than pretends.
    let broken = tokio::select! {
        () = stop => None,
        _ = &mut devices => Some("the QUIC endpoint"),
        _ = &mut public => Some("the public listener"),
        helper = &mut helpers => Some(helper.unwrap_or("the upkeep")),
    };
    tracing::info!("draining: no new work; what is in flight may end");
    relay.draining.cancel();
    ended.cancel();
    for serving in [devices, public] {
        if !serving.is_finished() {
            let _in_flight = tokio::time::timeout(DRAIN, serving).await;
        }
    }
    helpers.abort();
    summarise(&relay).await;
    let _unwritten = relay.audit.record(plain(Event::Stop, relay.clock.now(), broken.unwrap_or("drained"))).await;
    relay.audit.close().await;
    let _saved = tokio::time::timeout(DRAIN, saving).await;
    relay.store.close().await;
    tracing::info!("stopped");
    broken.map_or(Ok(()), |part| Err(internal(format!("{part} ended by itself"))))
}

/// Both sockets, before anything is served on them.
struct Listening {
    tcp: TcpListener,
    quic: transport::Bound,
    public: SocketAddr,
    issuer: Url,
    /// Without a slash at the end.
    issuer_text: String,
    device_certificate: Arc<Certificate>,
}

/// What was started.
struct Running {
    relay: Arc<Relay>,
    router: axum::Router,
    public_tls: rustls::ServerConfig,
    upkeep: Upkeep,
}

/// Certificates and what renews them.
struct Upkeep {
    server_ca: Authority,
    device_certificate: Arc<Certificate>,
    public_certificate: Arc<Certificate>,
    public_names: Vec<String>,
}

impl Listening {
    async fn open(config: &Config, keys: &Keys) -> Result<Self, Problem> {
        let taken = |address: SocketAddr, transport: &str, error: &dyn std::fmt::Display| {
            Problem::new(Code::PortInUse).detail(format!("cannot listen on {address} ({transport}): {error}"))
        };
        let own_name = [CONTROL_AUTHORITY.to_owned()];
        let issued = server_tls::issue(&keys.server_ca.issuer, &own_name, &Clock::new()).map_err(internal)?;
        let device_certificate = Certificate::new(issued);
        let device_ca = keys.device_ca.certificate.clone();
        let tls = transport::Tls { certificate: device_certificate.clone(), device_ca };
        let wanted = config.listen.quic;
        let reset = ResetKey::load(&config.state_dir).map_err(internal)?;
        let quic =
            transport::bind(wanted, tls, &reset, &config.limits).map_err(|error| taken(wanted, "UDP", &error))?;
        let wanted = config.listen.public;
        let tcp = TcpListener::bind(wanted).await.map_err(|error| taken(wanted, "TCP", &error))?;
        let public = tcp.local_addr().map_err(internal)?;
        let issuer = match &config.issuer {
            Some(issuer) => issuer.clone(),
            None => Url::parse(&format!("https://{public}")).map_err(internal)?,
        };
        let issuer_text = issuer.as_str().trim_end_matches('/').to_owned();
        Ok(Self { tcp, quic, public, issuer, issuer_text, device_certificate })
    }

    /// The one line on stdout.
    fn line(&self) -> String {
        serde_json::json!({
            "event": "ready",
            "issuer": self.issuer_text,
            "public": self.public.to_string(),
            "quic": self.quic.local_addr().to_string(),
        })
        .to_string()
    }

    /// Where agents dial: as configured, else the issuer's host with the port that was bound.
    fn advertised(&self, config: &Config) -> String {
        config.listen.advertise_quic.clone().unwrap_or_else(|| {
            let host = self.issuer.host_str().unwrap_or_default();
            format!("{host}:{}", self.quic.local_addr().port())
        })
    }

    /// Names that the public listener's own certificate must carry.
    fn names(&self) -> Vec<String> {
        let host = self.issuer.host_str().unwrap_or_default();
        let mut names = vec![host.trim_start_matches('[').trim_end_matches(']').to_owned()];
        let bound = self.public.ip();
        if !bound.is_unspecified() {
            names.push(bound.to_string());
        }
        if bound.is_loopback() {
            names.push("localhost".to_owned());
        }
        names.sort();
        names.dedup();
        names
    }
}

async fn start(config: Config, keys: Keys, listening: &Listening) -> Result<Running, Problem> {
    let (relay, server_ca) = assemble(config, keys, listening.issuer_text.clone()).await?;
    let public_names = listening.names();
    let own = match &relay.config.tls {
        Some(files) => server_tls::from_files(files),
        None => server_tls::issue(&server_ca.issuer, &public_names, &relay.clock),
    };
    let public_certificate = Certificate::new(own.map_err(|why| Problem::new(Code::ConfigInvalid).detail(why))?);
    let public_tls = server_tls::public_config(public_certificate.clone())
        .map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
    let advertised = listening.advertised(&relay.config);
    let document =
        public::discovery(&relay, listening.issuer.clone(), advertised, CONTROL_AUTHORITY, server_ca.pem.clone());
    let router = public::router(relay.clone(), document);
    let device_certificate = listening.device_certificate.clone();
    let upkeep = Upkeep { server_ca, device_certificate, public_certificate, public_names };
    Ok(Running { relay, router, public_tls, upkeep })
}

/// Everything that goes on beside serving, until it is dropped. Returns what ended although nothing of it should.
async fn keep(upkeep: Upkeep, admin: AdminSocket, relay: Arc<Relay>) -> &'static str {
    let Upkeep { server_ca, device_certificate, public_certificate, public_names } = upkeep;
    let server_ca = Arc::new(server_ca);
    let mut helpers = Helpers::default();
    helpers.spawn("the admin socket", {
        let relay = relay.clone();
        async move { admin.serve(relay).await }
    });
    helpers.spawn("the provider's keys", {
        let relay = relay.clone();
        async move { relay.provider.keep_fresh(&relay.clock).await }
    });
    helpers.spawn("the certificate for devices", {
        let (relay, server_ca) = (relay.clone(), server_ca.clone());
        let own_name = [CONTROL_AUTHORITY.to_owned()];
        async move { server_tls::keep_issued(&device_certificate, &server_ca.issuer, &own_name, &relay.clock).await }
    });
    helpers.spawn("the public certificate", {
        let relay = relay.clone();
        async move {
            let (certificate, clock) = (&public_certificate, &relay.clock);
            match &relay.config.tls {
                Some(files) => server_tls::keep_loaded(certificate, files).await,
                None => server_tls::keep_issued(certificate, &server_ca.issuer, &public_names, clock).await,
            }
        }
    });
    helpers.spawn("the tidying", {
        let relay = relay.clone();
        async move { tidy(&relay).await }
    });
    helpers.spawn("the reload", async move { reload::watch(&relay).await });
    helpers.ended().await
}

/// Tasks that do not end by themselves, so that none waits for another. They end when this is dropped.
#[derive(Default)]
struct Helpers {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Helpers {
    fn spawn(&mut self, name: &'static str, helper: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.tasks.spawn(helper).id(), name);
    }

    /// Which of them ended, in whatever way.
    async fn ended(&mut self) -> &'static str {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => Some(id),
            Some(Err(why)) => {
                tracing::error!(%why, "a part of the relay failed");
                Some(why.id())
            }
            None => None,
        };
        id.and_then(|id| self.names.get(&id).copied()).unwrap_or("the upkeep")
    }
}

/// Forgets what can no longer matter.
async fn tidy(relay: &Relay) {
    loop {
        tokio::time::sleep(TIDY).await;
        relay.limiter.retain_recent();
        relay.limiters.tidy();
        match relay.store.prune(relay.clock.now()).await {
            Ok(sessions) if sessions.is_empty() => {}
            Ok(sessions) => {
                change(&relay.snapshot, |revocations| {
                    revocations.forget_changes(relay.clock.now().minus(CHANGED_CLAIMS));
                    for session in &sessions {
                        revocations.remove(&Target::Session(session.clone()));
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "the store cannot be tidied"),
        }
        summarise(relay).await;
        let ahead = relay.clock.ahead_of_system();
        if ahead > ASTRAY {
            let seconds = ahead.as_secs();
            tracing::error!(
                seconds,
                "the system clock was set back; the relay's does not follow until it is restarted"
            );
        }
    }
}

/// Records how many refusals and re-checks have no record of their own.
pub(crate) async fn summarise(relay: &Relay) {
    let refusals = relay.limiters.refusals.take_unrecorded();
    let unchanged = relay.limiters.unchanged.swap(0, Ordering::Relaxed);
    let told = [
        (refusals, format!("{refusals} refusals were too many to record singly")),
        (unchanged, format!("{unchanged} re-checks for which only time had passed changed nothing")),
    ];
    for (_, detail) in told.into_iter().filter(|(count, _)| *count > 0) {
        let _unwritten = relay.audit.record(plain(Event::Summary, relay.clock.now(), detail)).await;
    }
}

/// Keeps each checkpoint in the store, until the writer of the log ends.
async fn save_checkpoints(relay: Arc<Relay>) {
    let mut checkpoints = relay.audit.checkpoints();
    while checkpoints.changed().await.is_ok() {
        let newest = checkpoints.borrow_and_update().clone();
        if let Some(checkpoint) = newest
            && let Err(error) = relay.store.keep_checkpoint(&checkpoint).await
        {
            tracing::warn!(%error, "the audit checkpoint cannot be remembered");
        }
    }
}

fn make_state_dir(dir: &Path) -> Result<(), Problem> {
    let mut builder = std::fs::DirBuilder::new();
    match builder.mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Problem::new(Code::StateDir).detail(format!("{} cannot be made: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal).detail(error.to_string())
}

/// Resolves at the first SIGTERM or SIGINT; the second ends the process at once.
fn stop_signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Caught, so that a write beyond a limit on file sizes fails like one to a full disk instead of ending the relay.
    const SIGXFSZ: i32 = 25;
    let _caught_from_now_on = signal(SignalKind::from_raw(SIGXFSZ))?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
            if first.is_cancelled() {
                std::process::exit(1);
            }
            first.cancel();
        }
    });
    Ok(async move { stop.cancelled().await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_helper_that_ends_or_fails_is_named_and_stands_in_nobodys_way() {
        for fails in [false, true] {
            let mut helpers = Helpers::default();
            helpers.spawn("one that goes on", std::future::pending());
            helpers.spawn("one that ends", async move { assert!(!fails, "on purpose") });
            let ended = tokio::time::timeout(DRAIN, helpers.ended()).await;
            assert_eq!(ended, Ok("one that ends"));
        }
    }

    /// None is polled by another's task: a helper that holds its thread up holds up no other.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_helper_that_blocks_its_thread_holds_up_no_other() {
        let (go_on, hangs) = std::sync::mpsc::channel::<()>();
        let mut helpers = Helpers::default();
        helpers.spawn("one that hangs", async move { hangs.recv().unwrap_or_default() });
        helpers.spawn("another", async {});
        let ended = tokio::time::timeout(DRAIN, helpers.ended()).await;
        assert_eq!(ended, Ok("another"));
        drop(go_on);
    }
}
