//! `init`: a directory with a commented configuration, a sample policy, authorities and keys. All of it or nothing.

use crate::ca::new_authority;
use crate::clock::Clock;
use crate::keys::{AUDIT, AUDIT_PUBLIC, DEVICE_CA, IDENTITY, SERVER_CA, SESSION};
use postern_protocol::Problem;
use postern_relay_core::audit::{ChainError, CheckpointSigner};
use postern_relay_core::policy::Policy;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long an authority of the relay lives.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What `init` puts into its directory.
pub const ENTRIES: [&str; 3] = ["keys", "policy.cedar", "relay.toml"];

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error("{} is there already; nothing is overwritten. Give another directory, or move it away", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// A key could not be made.
    #[error("a key could not be made: {0}")]
    Key(#[from] rcgen::Error),
    /// An audit key could not be made.
    #[error("the audit key could not be made: {0}")]
    Audit(#[from] ChainError),
    /// An authority could not be made.
    #[error("{0}")]
    Authority(Problem),
}

/// Makes it all in `dir`, which may exist if it holds none of [`ENTRIES`]. Everything is written beside it first
/// and moved into place at the end.
pub fn init(dir: &Path, clock: &Clock) -> Result<(), InitError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| InitError::Io(path, error)
    };
    if let Some(there) = ENTRIES.iter().map(|name| dir.join(name)).find(|path| path.symlink_metadata().is_ok()) {
        return Err(InitError::Exists(there));
    }
    let made = !dir.exists();
    if made {
        private_dir().create(dir).map_err(io(dir))?;
    }
    let result = stage_and_move(dir, clock);
    if made && result.is_err() {
        // Not empty only if somebody else has put something there: then it is not ours to remove.
        let _left = std::fs::remove_dir(dir);
    }
    result
}

fn stage_and_move(dir: &Path, clock: &Clock) -> Result<(), InitError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| InitError::Io(path, error)
    };
    let stage = tempfile::Builder::new().prefix(".postern-init-").tempdir_in(dir).map_err(io(dir))?;
    let keys = stage.path().join("keys");
    private_dir().create(&keys).map_err(io(&keys))?;
    write_keys(&keys, clock)?;
    write(&stage.path().join("policy.cedar"), Policy::sample(), 0o644)?;
    write(&stage.path().join("relay.toml"), CONFIG, 0o644)?;
    for (index, name) in ENTRIES.iter().enumerate() {
        let target = dir.join(name);
        if let Err(error) = std::fs::rename(stage.path().join(name), &target) {
            for moved in ENTRIES.iter().take(index) {
                let _back_to_the_stage = std::fs::rename(dir.join(moved), stage.path().join(moved));
            }
            return Err(InitError::Io(target, error));
        }
    }
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io(dir))
}

fn write_keys(dir: &Path, clock: &Clock) -> Result<(), InitError> {
    for ((key, certificate), name) in [(DEVICE_CA, "Postern device authority"), (SERVER_CA, "Postern server authority")]
    {
        let pair = new_key(dir, key, &PKCS_ECDSA_P256_SHA256)?;
        let pem = new_authority(name, &pair, clock.now(), AUTHORITY_LIFETIME).map_err(InitError::Authority)?;
        write(&dir.join(certificate), &pem, 0o644)?;
    }
    new_key(dir, SESSION, &PKCS_ED25519)?;
    new_key(dir, IDENTITY, &PKCS_ECDSA_P256_SHA256)?;
    let audit = new_key(dir, AUDIT, &PKCS_ED25519)?;
    let signer = CheckpointSigner::from_pkcs8(&Zeroizing::new(audit.serialize_der()))?;
    write(&dir.join(AUDIT_PUBLIC), &format!("{}\n", signer.public()), 0o644)
}

fn new_key(dir: &Path, name: &str, algorithm: &'static SignatureAlgorithm) -> Result<KeyPair, InitError> {
    let key = KeyPair::generate_for(algorithm)?;
    let pem = Zeroizing::new(key.serialize_pem());
    write(&dir.join(name), &pem, 0o600)?;
    Ok(key)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| InitError::Io(path.to_owned(), error))
}

fn private_dir() -> std::fs::DirBuilder {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// The configuration to begin with. It serves as it is, on loopback; the comments say what to change.
const CONFIG: &str = r#"# Configuration of a Postern relay. `postern-relay check` tells every mistake in it, with line and remedy.
# Relative paths start at this file. Durations read "90s", "15m", "24h", "7d".

organisation = "Example Corp"       # shown to people when they sign in
trust_domain = "corp.example"       # names your devices: spiffe://corp.example/device/...

# The public address, which people type: postern login relay.corp.example
# Needed as soon as the relay listens on more than loopback.
# issuer = "https://relay.corp.example:8443"

[listen]
quic = "127.0.0.1:4433"             # UDP, devices only. For the network: "0.0.0.0:4433" or "[::]:4433"
public = "127.0.0.1:8443"           # TCP, HTTPS for everyone: discovery, enrolment, health, JWKS
# advertise_quic = "relay.corp.example:4433"    # if devices reach the UDP port under another name

# The public listener's certificate. Without it the relay issues its own, from keys/server-ca.crt; then people
# sign in once with: postern login ADDRESS --ca server-ca.crt
# [tls]
# certificate = "public.crt"        # PEM, leaf first
# key = "public.key"

[keys]
dir = "keys"                        # made by `postern-relay init`; back it up

[state]
dir = "state"                       # store, audit log, admin socket

[policy]
file = "policy.cedar"               # who may use what

# [audit]
# file = "state/audit.jsonl"

[provider]
issuer = "https://login.corp.example"           # exactly as the provider's metadata has it
client_id = "postern"                           # native, public client: PKCE, redirect http://127.0.0.1/callback
scopes = ["openid", "profile", "email", "offline_access"]
groups_claim = "groups"                         # the claim that lists a person's groups; absent means none
token_max_age = "15m"                           # somebody disabled there is out within this time
# resource = "https://relay.corp.example"       # `aud` of access tokens; service accounts need it
# require_nonce = true                          # refuse sign-ins not bound to the device's key, as by device code
# backchannel_logout = false                    # by default the provider may end sessions: POST /backchannel-logout
# backchannel_logout_untyped = true             # for a provider whose logout tokens lack typ or exp, such as Glewlwyd
# redirect_port = 8765                          # for a provider that insists on one exact redirect address

[session]
token_lifetime = "5m"
# max_age = "12h"                   # people sign in afresh this often; absent: for as long as the provider lets them

[certificate]
lifetime = "24h"

[posture]
max_age = "5m"                      # devices report when anything changes, and once a minute

[limits]
requests_per_second = 2000          # per session
burst = 4000
enrolments_per_minute = 30          # per source address
connections = 10000                 # per listener
streams_per_connection = 1000       # 100 are permitted at first, more as they are used

# The apps. An http app is at http://NAME.localhost:PORT/ on each person's machine; a tcp app on a port of its own.
[[app]]
name = "wiki"
kind = "http"
upstream = "http://127.0.0.1:8080"  # where the relay reaches it
description = "The wiki"
groups = ["internal"]               # what policy.cedar calls AppGroup::"internal"
# hidden = true                     # whoever may not use it does not learn that it exists

# [[app]]
# name = "db"
# kind = "tcp"
# upstream = "tcp://127.0.0.1:5432"
# description = "The database"
# on_lapse = "hold"                 # a lapsed session freezes its streams until the user signed in again; default "cut"
# hold_for = "10m"                  # for at most so long

# A program that signs in by client credentials, with the key of its device.
# [[service_account]]
# subject = "ci-runner"
# key_thumbprint = "..."            # the agent prints it when the relay refuses the key

# Who may push security events (Shared Signals, CAEP) to https://RELAY/ssf/events: sessions end, devices out of order are
# denied, changed claims take effect at once.
# [[signals]]
# name = "mdm"
# issuer = "https://signals.corp.example"
# jwks_uri = "https://signals.corp.example/jwks.json"
# audience = "https://relay.corp.example"   # `aud` of its events
# authorization = "signals.secret"  # a file with the bearer secret that it delivers with, if it has one
"#;
