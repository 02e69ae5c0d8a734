//! The relay's configuration and policy for the demo.

use std::net::SocketAddr;
use std::path::Path;

/// What access tokens are meant for, at provider and relay.
pub(crate) const RESOURCE: &str = "urn:postern:demo";
/// The trust domain of device certificates.
pub(crate) const TRUST_DOMAIN: &str = "demo.example";
/// Why the vault stays shut, in the words of its owner.
pub(crate) const VAULT_REASON: &str = "The vault is for the security team.";
/// What to do about it.
pub(crate) const VAULT_FIX: &str = "Ask security@example.com to add you to the group security.";

/// An app behind the relay.
pub(crate) struct App {
    pub(crate) name: &'static str,
    /// `http` or `tcp`, also the scheme of the upstream.
    pub(crate) kind: &'static str,
    pub(crate) upstream: SocketAddr,
    pub(crate) description: &'static str,
    pub(crate) group: &'static str,
}

/// `relay.toml`. `limits`: the section's content where the defaults are too low for what is measured.
pub(crate) fn relay_toml(provider: &str, apps: &[App], limits: &str) -> String {
    let head = format!(
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

[limits]
{limits}
"#
    );
    let app = |App { name, kind, upstream, description, group }: &App| {
        format!(
            r#"
[[app]]
name = "{name}"
kind = "{kind}"
upstream = "{kind}://{upstream}"
description = "{description}"
groups = ["{group}"]
"#
        )
    };
    std::iter::once(head).chain(apps.iter().map(app)).collect()
}

/// The agent's `config.toml`: whoever signs in from the desktop finds the relay, and believes it.
pub(crate) fn agent_toml(relay: &str, authority: &Path) -> String {
    format!("relay = \"{relay}\"\nca_file = \"{}\"\n", authority.display())
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
