//! The one table from cause to answer. A code is stable: it is never renamed, renumbered or reused.
//!
//! Each row says whose fault it is, whether trying again can help and what to do; HTTP status,
//! `Proxy-Status`, CLI text and audit field are all read off it. `docs/error-codes.md` is generated from it.

use serde::{Deserialize, Serialize};

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The person: sign in, ask for access.
    User,
    /// The device or its agent.
    Device,
    /// Whoever made the request: it is malformed.
    Caller,
    /// The administrator of the relay: configuration or policy.
    Admin,
    /// The OpenID provider.
    Provider,
    /// The app behind the relay.
    Upstream,
    /// The relay itself.
    Relay,
    /// The way there.
    Network,
}

/// Whether the same request can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No: something must change first.
    No,
    /// Yes, by itself, after a pause.
    Later,
    /// After the agent renewed its session token or certificate.
    AfterRenewal,
    /// After the person signed in again.
    AfterSignIn,
}

macro_rules! codes {
    ($($variant:ident $number:literal $code:literal $status:literal $fault:ident $retry:ident $proxy:expr;
        $summary:literal; $fix:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(ts_rs::TS))]
        pub enum Code {
            $(
                #[doc = $summary]
                #[serde(rename = $code)]
                $variant,
            )*
        }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The stable number: QUIC and HTTP/2 reset code of a stream cut for this cause.
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number),* }
            }

            /// The HTTP status of a refusal with this code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Who has to act.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),* }
            }

            /// Whether the same request can succeed later.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry),* }
            }

            /// The `Proxy-Status` error type (RFC 9209 §2.3), where one fits.
            pub const fn proxy_error(self) -> Option<&'static str> {
                match self { $(Self::$variant => $proxy),* }
            }

            /// One line for a person.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary),* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix),* }
            }
        }
    };
}

const DENIED: Option<&str> = Some("http_request_denied");
const BAD: Option<&str> = Some("http_request_error");
const INTERNAL: Option<&str> = Some("proxy_internal_error");

codes! {
    TokenMissing 101 "token_missing" 407 Device AfterRenewal DENIED;
        "The request carries no session token"; "Let the agent renew its session, or sign in again.";
    TokenInvalid 102 "token_invalid" 407 Device AfterRenewal DENIED;
        "The session token is not valid"; "Let the agent renew its session, or sign in again.";
    TokenExpired 103 "token_expired" 407 Device AfterRenewal DENIED;
        "The session token has ended"; "The agent renews it by itself; if this stays, check the clock and sign in again.";
    TokenWrongDevice 104 "token_wrong_device" 407 Device AfterSignIn DENIED;
        "The session token belongs to another device"; "Sign in on this device.";
    SessionRevoked 105 "session_revoked" 407 User AfterSignIn DENIED;
        "The session was revoked"; "Sign in again.";
    SessionUnknown 106 "session_unknown" 407 User AfterSignIn DENIED;
        "The relay does not know this session"; "Sign in again.";
    PrincipalRevoked 107 "principal_revoked" 403 User No DENIED;
        "The user's access was revoked"; "Ask your administrator.";
    DeviceRevoked 108 "device_revoked" 403 User No DENIED;
        "The device's access was revoked"; "Ask your administrator.";
    DeviceUnknown 109 "device_unknown" 403 Device AfterSignIn DENIED;
        "The relay does not know this device"; "Sign in again: this enrols the device.";
    CertificateInvalid 110 "certificate_invalid" 403 Device AfterSignIn DENIED;
        "The device certificate is not valid"; "Sign in again: this issues a new certificate.";
    CertificateExpired 111 "certificate_expired" 403 Device AfterSignIn DENIED;
        "The device certificate has ended"; "Check the clock and sign in again: this issues a new certificate.";
    IdentityTokenInvalid 112 "identity_token_invalid" 401 Provider AfterSignIn DENIED;
        "The provider's token was refused"; "Sign in again; if this stays, the administrator should compare issuer, client and clock of provider and relay.";
    IdentityTokenStale 113 "identity_token_stale" 401 Device AfterRenewal DENIED;
        "The provider's token is too old"; "Let the agent refresh it, or sign in again; check the clock.";
    IdentityTokenUnbound 114 "identity_token_unbound" 401 Device AfterSignIn DENIED;
        "The provider's token is not bound to this device key"; "Sign in again on this device.";
    IdentityTokenUsed 115 "identity_token_used" 401 Device AfterSignIn DENIED;
        "The provider's token was already used to enrol"; "Sign in again.";
    CsrInvalid 116 "csr_invalid" 400 Device No BAD;
        "The certificate request is not acceptable"; "Use a P-256 key and sign the request with it; a current agent does.";
    DeviceOwned 117 "device_owned" 403 Device AfterSignIn DENIED;
        "The device key belongs to another principal"; "Sign out first: a new sign-in makes a new device key.";
    ServiceAccountUnregistered 118 "service_account_unregistered" 403 Admin No DENIED;
        "The service account or its key is not registered at the relay"; "The administrator adds the account with this key's thumbprint to relay.toml.";
    LogoutTokenInvalid 119 "logout_token_invalid" 400 Provider No BAD;
        "The logout token was refused"; "The administrator compares issuer, client and clock of provider and relay; a token counts once.";
    EventInvalid 120 "event_invalid" 400 Provider No BAD;
        "The security event was refused"; "The administrator compares the transmitter's settings with [[signals]] in relay.toml.";

    PolicyDenied 201 "policy_denied" 403 User No DENIED;
        "The policy does not allow this"; "Ask the owner of the app for access.";
    AppUnknown 202 "app_unknown" 404 User No Some("destination_not_found");
        "There is no such app"; "See the list of apps; ask your administrator if one is missing.";
    PostureStale 203 "posture_stale" 403 Device AfterRenewal DENIED;
        "The device's state was not reported lately"; "Let the agent report again; restart it if this stays.";
    StepUpRequired 204 "step_up_required" 407 User AfterSignIn DENIED;
        "A fresh or stronger sign-in is asked for"; "Sign in once more when you are asked to; what you opened then goes on.";
    DeviceNotCompliant 205 "device_not_compliant" 403 Device Later DENIED;
        "The device does not meet your organisation's rules"; "Bring the device into order as your administrator asks; access returns by itself.";

    RequestInvalid 301 "request_invalid" 400 Caller No BAD;
        "The request is malformed"; "Correct the request as the detail says.";
    PathAmbiguous 302 "path_ambiguous" 400 Caller No BAD;
        "The path could be read in more than one way"; "Send the path without dot segments, double slashes, backslashes or control characters.";
    AuthorityMismatch 303 "authority_mismatch" 400 Caller No BAD;
        "Host and request target name different apps"; "Name the same app in both.";
    Misdirected 304 "misdirected" 421 Caller No BAD;
        "This name is not served here"; "Use the app's own address.";
    HeadersTooLarge 305 "headers_too_large" 431 Caller No Some("http_request_error");
        "The header section is larger than 64 KiB"; "Send fewer or smaller headers or cookies.";
    BodyTooLarge 306 "body_too_large" 413 Caller No BAD;
        "The body is larger than allowed here"; "Send less.";
    MethodNotAllowed 307 "method_not_allowed" 405 Caller No BAD;
        "The method is not allowed here"; "Use a method this address knows.";
    NotFound 308 "not_found" 404 Caller No BAD;
        "There is nothing at this address"; "Check the path.";
    AppKindMismatch 309 "app_kind_mismatch" 400 Caller No BAD;
        "The app does not speak this protocol"; "Use the address that the list of apps shows for it.";
    RateLimited 310 "rate_limited" 429 Caller Later DENIED;
        "Too many requests"; "Wait a little and try again.";

    UpstreamUnreachable 401 "upstream_unreachable" 502 Upstream Later Some("destination_unavailable");
        "The app could not be reached"; "Try again later; the app's owner should see whether it runs.";
    UpstreamTimeout 402 "upstream_timeout" 504 Upstream Later Some("connection_timeout");
        "The app did not answer in time"; "Try again later; the app's owner should see whether it runs.";
    UpstreamInvalid 403 "upstream_invalid" 502 Upstream Later Some("http_protocol_error");
        "The app's answer was not valid"; "The app's owner should look at what it sends.";
    UpstreamBlocked 404 "upstream_blocked" 502 Admin No Some("destination_ip_prohibited");
        "The app's address is not one the relay may reach"; "The administrator checks the upstream in relay.toml.";

    Draining 501 "draining" 503 Relay Later Some("proxy_internal_response");
        "The relay is about to restart"; "The agent tries again by itself.";
    AuditUnavailable 502 "audit_unavailable" 503 Relay Later INTERNAL;
        "The relay cannot write its audit log and so allows nothing"; "The administrator checks the audit file's disk and permissions.";
    StoreUnavailable 503 "store_unavailable" 503 Relay Later INTERNAL;
        "The relay cannot reach its store and so allows nothing"; "The administrator checks the store.";
    ProviderUnreachable 504 "provider_unreachable" 503 Provider Later Some("proxy_internal_error");
        "The OpenID provider cannot be reached"; "Try again later; check that the provider's address is right and reachable.";
    Internal 505 "internal" 500 Relay Later INTERNAL;
        "Something went wrong inside Postern"; "Try again; report the code and the time if it stays.";

    NotSignedIn 601 "not_signed_in" 407 User AfterSignIn None;
        "Nobody is signed in"; "Sign in: open Postern, or run: postern login ADDRESS";
    SignInCancelled 602 "sign_in_cancelled" 401 User AfterSignIn None;
        "The sign-in was cancelled or refused"; "Sign in again: in Postern, or by: postern login";
    SignInTimeout 603 "sign_in_timeout" 401 User AfterSignIn None;
        "The sign-in was not finished in time"; "Sign in again, in Postern or by postern login, and finish within the time shown.";
    SignInFailed 604 "sign_in_failed" 401 Provider AfterSignIn None;
        "The provider did not complete the sign-in"; "Sign in again, in Postern or by postern login; if this stays, the administrator looks at the client at the provider.";
    ProviderInvalid 605 "provider_invalid" 502 Provider No None;
        "The provider's metadata or answer is not acceptable"; "The administrator corrects the provider as the detail says.";
    ProviderNoS256 606 "provider_no_s256" 502 Provider No None;
        "The provider does not offer PKCE with S256"; "The administrator turns on PKCE (S256) at the provider.";
    CallbackRejected 607 "callback_rejected" 400 Caller No None;
        "This is not the answer of the sign-in under way"; "Close this page and sign in again: in Postern, or by postern login.";
    KeyringUnavailable 608 "keyring_unavailable" 503 Device No None;
        "No keyring is available to keep secrets in"; "Start a keyring (Secret Service, Keychain, Credential Manager), or agree to a session in memory: --memory-only.";
    KeyringLocked 609 "keyring_locked" 503 Device Later None;
        "The keyring is locked or refused"; "Unlock it and try again, or agree to a session in memory: --memory-only.";
    RelayUnreachable 610 "relay_unreachable" 503 Network Later None;
        "The relay cannot be reached"; "Check the address and the network.";
    RelayUntrusted 611 "relay_untrusted" 502 Network No None;
        "The relay's certificate is not trusted"; "Check the address. A relay with an authority of its own needs a file from your administrator, once: postern login ADDRESS --ca FILE";
    DiscoveryInvalid 612 "discovery_invalid" 502 Admin No None;
        "The address does not answer as a Postern relay does"; "Check the address with your administrator.";
    AgentNotRunning 613 "agent_not_running" 503 Device No None;
        "The agent is not running"; "Run: postern login ADDRESS, or: postern agent start";
    AgentRunning 614 "agent_running" 503 Device No None;
        "An agent already runs with this state directory"; "Use it, stop it, or choose another --state-dir.";
    PeerRefused 615 "peer_refused" 403 Caller No None;
        "Another user of this machine owns this agent"; "Use your own agent.";
    CrossSite 616 "cross_site" 403 Caller No None;
        "Another web site may not use your apps"; "Open the app's address yourself.";
    HostRefused 617 "host_refused" 421 Caller No None;
        "This name does not belong to an app here"; "Use the address that postern apps shows.";
    StateDir 618 "state_dir" 500 Device No None;
        "The state directory cannot be used"; "Give a directory that you own and that nobody else can write, with --state-dir.";
    ConfigInvalid 619 "config_invalid" 500 Admin No None;
        "The configuration is not valid"; "Correct what is listed.";
    VersionUnsupported 620 "version_unsupported" 502 Admin No None;
        "Agent and relay do not speak the same version"; "Update the older one.";
    RefreshRefused 621 "refresh_refused" 401 Provider AfterSignIn None;
        "The provider ended the sign-in"; "Sign in again.";
    BrowserUnavailable 622 "browser_unavailable" 503 Device No None;
        "No browser could be opened"; "Run postern login with --no-browser and open the address yourself.";
    PortInUse 623 "port_in_use" 500 Device Later None;
        "A local port is taken by another program"; "Stop the other program or choose another port in the configuration.";
    CaptivePortal 624 "captive_portal" 511 Network Later None;
        "This network wants you to sign in to it first"; "Open any web page, sign in to the network, then try again.";
    ClockWrong 625 "clock_wrong" 500 Device No None;
        "This device's clock is wrong"; "Set the device's date and time, best automatically.";
    ServiceFailed 626 "service_failed" 500 Device No None;
        "The background service could not be set up or used"; "Correct what the detail says, or do without it: postern agent start";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Code {
    /// The code with this stable number, as a stream's reset carries it.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| u64::from(code.number()) == number)
    }

    /// The table as Markdown: the content of `docs/error-codes.md`.
    pub fn markdown() -> String {
        let mut page = String::from(
            "# Error codes\n\nGenerated from `protocol/src/code.rs`; edit that table, then run \
             `POSTERN_BLESS=1 cargo test -p postern-protocol`.\n\n\
             | code | number | status | who acts | try again | meaning | what to do |\n|---|---|---|---|---|---|---|\n",
        );
        for code in Self::ALL {
            page.push_str(&format!(
                "| `{}` | {} | {} | {} | {} | {} | {} |\n",
                code.as_str(),
                code.number(),
                code.status(),
                word(&code.fault()),
                word(&code.retry()),
                code.summary(),
                code.fix()
            ));
        }
        page
    }
}

/// A unit variant's serialized name with spaces for underscores.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name.replace('_', " "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_and_numbers_are_unique_and_serialize_as_their_text() {
        let texts: HashSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        let numbers: HashSet<_> = Code::ALL.iter().map(|c| c.number()).collect();
        assert_eq!((texts.len(), numbers.len()), (Code::ALL.len(), Code::ALL.len()));
        for &code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(Code::from_number(code.number().into()), Some(code));
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }

    #[test]
    fn the_generated_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/error-codes.md");
        if std::env::var_os("POSTERN_BLESS").is_some() {
            std::fs::write(path, Code::markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, Code::markdown(), "run POSTERN_BLESS=1 cargo test -p postern-protocol");
    }
}
