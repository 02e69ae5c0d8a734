//! The checks that open other files: policy, keys, certificates, directories.

use super::fault::Fault;
use super::load::{Draft, text_of};
use super::reader::{Found, Source};
use super::{Config, TlsFiles};
use crate::keys::{self, Keys};
use postern_relay_core::app::AppTable;
use postern_relay_core::limits::MAX_POLICY_BYTES;
use postern_relay_core::policy::{NO_SUCH, Policy};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Agents report at least this often.
const POSTURE_REPORTS: Duration = Duration::from_secs(60);

/// Opens what the draft names. Mistakes of `relay.toml` go to `source`, those of other files are returned.
pub(super) fn complete(source: &Source, draft: Draft) -> (Option<(Config, Keys)>, Vec<Fault>) {
    let mut faults = Vec::new();
    let keys = keys(source, &draft.keys_dir.value, draft.keys_dir.span.start, &mut faults);
    if let Some(tls) = &draft.tls {
        check_tls(source, tls, &mut faults);
    }
    check_state(source, &draft);
    for path in [&draft.file, &draft.policy_file.value, &draft.audit_file.value] {
        if std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o022 != 0) {
            let fix = format!("chmod go-w {}", path.display());
            faults.push(Fault::of_file(path, "others may change this file, and with it who has access", fix));
        }
    }
    let policy = policy(source, &draft, &mut faults);
    // Devices report at each renewal too.
    if draft.posture_max_age.value < draft.token_lifetime.min(POSTURE_REPORTS) {
        let message = "`posture.max_age` is too short: devices report their posture once a minute";
        let fix = "make it at least \"1m\"";
        source.fault(draft.posture_max_age.span.start, message, fix);
    }
    (config(draft, policy).zip(keys), faults)
}

fn config(draft: Draft, policy: Option<Arc<Policy>>) -> Option<Config> {
    Some(Config {
        file: draft.file,
        text: draft.text,
        state_override: draft.state_override,
        organisation: draft.organisation?,
        trust_domain: draft.trust_domain?,
        issuer: draft.issuer,
        listen: draft.listen?,
        tls: draft.tls.map(|found| found.value),
        keys_dir: draft.keys_dir.value,
        state_dir: draft.state_dir.value,
        policy_file: draft.policy_file.value,
        audit_file: draft.audit_file.value,
        provider: draft.provider?,
        token_lifetime: draft.token_lifetime,
        session_max_age: draft.session_max_age,
        certificate_lifetime: draft.certificate_lifetime,
        posture_max_age: draft.posture_max_age.value,
        limits: draft.limits,
        policy: policy?,
        service_accounts: draft.service_accounts,
        signals: draft.signals,
    })
}

fn keys(source: &Source, dir: &Path, at: usize, faults: &mut Vec<Fault>) -> Option<Keys> {
    if !dir.is_dir() {
        let fix = "name the directory that postern-relay init made, or make one: postern-relay init DIR";
        source.fault(at, format!("the directory of the keys, {}, does not exist", dir.display()), fix);
        return None;
    }
    Keys::load(dir).map_err(|found| faults.extend(found)).ok()
}

fn check_tls(source: &Source, tls: &Found<TlsFiles>, faults: &mut Vec<Fault>) {
    let mut sound = true;
    for path in [&tls.value.certificate, &tls.value.key] {
        if let Err(why) = keys::read_text(path) {
            sound = false;
            source.fault(
                tls.span.start,
                format!("{} {why}", path.display()),
                "name a PEM file that the relay may read",
            );
        }
    }
    let key = &tls.value.key;
    if std::fs::metadata(key).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0) {
        faults.push(Fault::of_file(
            key,
            "everybody may read or write this private key",
            format!("chmod o-rwx {}", key.display()),
        ));
    }
    if sound && let Err(why) = crate::server_tls::from_files(&tls.value) {
        let fix = "name a chain in PEM, leaf first, and the leaf's private key";
        source.fault(tls.span.start, format!("the public listener's certificate cannot be used: {why}"), fix);
    }
}

/// The state directory must be ours alone; `serve` makes it where it is absent.
fn check_state(source: &Source, draft: &Draft) {
    let (dir, at) = (&draft.state_dir.value, draft.state_dir.span.start);
    let fix = "name a directory of the relay's own, in one that exists";
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => source.fault(at, format!("{} is not a directory", dir.display()), fix),
        Ok(meta) if !keys::is_private(meta.permissions().mode()) => {
            let message = format!("others may look into the state directory {}", dir.display());
            source.fault(at, message, format!("chmod 700 {}", dir.display()));
        }
        Ok(_) => {}
        Err(_) if dir.parent().is_some_and(|parent| parent.as_os_str().is_empty() || parent.is_dir()) => {}
        Err(_) => source.fault(at, format!("the directory above {} does not exist", dir.display()), fix),
    }
    let audit = &draft.audit_file;
    let holder = audit.value.parent().unwrap_or(Path::new(""));
    if audit.value.is_dir() || !(holder.as_os_str().is_empty() || holder == dir || holder.is_dir()) {
        let message = format!("the audit log cannot stand at {}", audit.value.display());
        source.fault(audit.span.start, message, "name a file in a directory that exists");
    }
}

fn policy(source: &Source, draft: &Draft, faults: &mut Vec<Fault>) -> Option<Arc<Policy>> {
    let Found { value: path, span } = &draft.policy_file;
    let text = match std::fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_POLICY_BYTES as u64 => Err("is larger than 4 MiB".to_owned()),
        _ => text_of(path).map_err(|error| format!("cannot be read: {error}")),
    };
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            source.fault(
                span.start,
                format!("the policy {} {why}", path.display()),
                "name the file of the Cedar policy",
            );
            return None;
        }
    };
    // With a broken list of apps the policy is still checked, but for the apps that it names.
    let apps = draft.apps.clone();
    match load_policy(path, &text, apps.clone().unwrap_or_default()) {
        Ok(policy) => apps.is_some().then(|| Arc::new(policy)),
        Err(found) => {
            let whole = apps.is_some();
            faults.extend(found.into_iter().filter(|fault| whole || !fault.message.starts_with(NO_SUCH)));
            None
        }
    }
}

/// Parses and validates a policy file for these apps.
pub fn load_policy(path: &Path, text: &str, apps: Arc<AppTable>) -> Result<Policy, Vec<Fault>> {
    Policy::load(text, apps).map_err(|faults| {
        let place = |fault: postern_relay_core::policy::PolicyFault| Fault {
            file: path.to_owned(),
            line: fault.line,
            column: fault.column,
            message: fault.message,
            fix: "correct the policy here".to_owned(),
        };
        faults.into_iter().map(place).collect()
    })
}
