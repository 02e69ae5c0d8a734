//! Bounds on what comes from outside: every size and count has one, and it stands here.

/// Most bytes of a provider's or session token in compact form: room for 200 long group names.
pub const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// Most bytes of a logout token or security event: neither lists groups.
pub const MAX_EVENT_BYTES: usize = 16 * 1024;

/// Most groups of one principal. More is refused, never cut: a missing group could drop a `forbid`.
pub const MAX_GROUPS: usize = 500;

/// Most bytes of a group's name: an LDAP distinguished name fits.
pub const MAX_GROUP_BYTES: usize = 512;

/// Most bytes of a subject; OpenID Connect Core §2 allows 255.
pub const MAX_SUBJECT_BYTES: usize = 255;

/// Most bytes of an issuer.
pub const MAX_ISSUER_BYTES: usize = 512;

/// Most bytes of any other claim that is kept: e-mail, name, `acr`, each entry of `amr`, nonce.
pub const MAX_CLAIM_BYTES: usize = 512;

/// Most entries of `amr`.
pub const MAX_AMR: usize = 16;

/// Most bytes of a provider's key set, and most keys in it.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;
/// Most keys of a provider's key set.
pub const MAX_JWKS_KEYS: usize = 100;

/// Most bytes of a certificate request in PEM.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// Most bytes of a device certificate in DER.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// Most bytes of a request path.
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// Most bytes of the policy file.
pub const MAX_POLICY_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of one field of an audit record; what is longer is cut and marked.
pub const MAX_AUDIT_FIELD_BYTES: usize = 1024;

/// Most bytes of group names in one audit record: room for 200 of the length of a UUID. Of more, the rest is counted.
pub const MAX_AUDIT_GROUPS_BYTES: usize = 8 * 1024;

/// How far the clocks of provider, relay and device may lie apart.
pub const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(60);
