//! The relay's configuration and policy for the demo.

use std::net::SocketAddr;

/// What access tokens are meant for, at provider and relay.
pub(crate) const RESOURCE: &str = "urn:postern:demo";
/// The trust domain of device certificates.
pub(crate) const TRUST_DOMAIN: &str = "demo.example";
/// Why the vault stays shut, in the words of its owner.
pub(crate) const VAULT_REASON: &str = "The vault is for the security team.";
/// What to do about it.
pub(crate) const VAULT_FIX: &str = "Ask security@example.com to add you to the group security.";

/// Where the apps really are.
pub(crate) struct Upstreams {
    pub(crate) whoami: SocketAddr,
    pub(crate) vault: SocketAddr,
    pub(crate) echo: SocketAddr,
}

/// `relay.toml`.
pub(crate) fn relay_toml(provider: &str, upstreams: &Upstreams) -> String {
    let Upstreams { whoami, vault, echo } = upstreams;
    format!(
        r#"organisation = "Postern demo"
trust_domain = "{TRUST_DOMAIN}"

[listen]
quic = "127.0.0.1:0"
public = "127.0.0.1:0"

[policy]
file = "policy.cedar"

[provider]
issuer = "{provider}"
client_id = "postern"
scopes = ["openid", "profile", "email", "offline_access"]
resource = "{RESOURCE}"

[[app]]
name = "whoami"
kind = "http"
upstream = "http://{whoami}"
description = "Shows who you are to the apps"
groups = ["internal"]

[[app]]
name = "echo"
kind = "tcp"
upstream = "tcp://{echo}"
description = "Sends back what it gets"
groups = ["internal"]

[[app]]
name = "vault"
kind = "http"
upstream = "http://{vault}"
description = "For the security team"
groups = ["restricted"]
"#
    )
}

/// `policy.cedar`.
pub(crate) fn policy() -> String {
    format!(
        r#"// Everybody of engineering and finance may use the internal apps.
@id("staff-use-internal-apps")
permit(principal, action, resource in AppGroup::"internal")
when {{ principal in Group::"engineering" || principal in Group::"finance" }};

// The vault opens for the security team alone. Whoever is refused reads the reason and what to do.
@id("vault-for-security")
permit(principal in Group::"security", action, resource in AppGroup::"restricted");

@id("vault-closed")
@reason("{VAULT_REASON}")
@fix("{VAULT_FIX}")
forbid(principal, action, resource in AppGroup::"restricted")
unless {{ principal in Group::"security" }};
"#
    )
}
