//! Header names of Postern's own. What is not listed here is a standard header under its standard name.

/// The relay's signed identity assertion to the upstream: a JWT, verifiable with the keys at the relay's JWKS.
pub const IDENTITY: &str = "x-postern-identity";

/// On a decided request, allowed or refused: the decision's id, the same as in the audit log and a refusal's problem
/// document. An upstream's own is dropped, so only the relay says it.
pub const DECISION: &str = "postern-decision";

/// On a refusal: the stable error code.
pub const CODE: &str = "postern-code";

/// From agent to relay: the authority the browser used (`app.localhost:port`), for `X-Forwarded-Host`.
pub const LOCAL_AUTHORITY: &str = "postern-local-authority";

/// Prefix that only Postern itself may use towards an upstream; an agent's or user's headers with it are dropped.
pub const RESERVED_PREFIXES: [&str; 2] = ["x-postern-", "postern-"];
