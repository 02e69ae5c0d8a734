//! What a refusal means for the session: the code's own `retry` decides, but for the three codes of a revocation.

use postern_protocol::{Code, Retry};

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Someone withdrew the session, the device or the user.
    Revoked,
    /// Only a new sign-in helps.
    SignIn,
    /// A newer token helps.
    Renew,
    /// Time helps.
    Later,
    /// Nothing the agent can do helps: it asks seldom, in case somebody mended it.
    Stop,
}

impl Verdict {
    pub(crate) const fn of(code: Code) -> Self {
        match code {
            Code::SessionRevoked | Code::PrincipalRevoked | Code::DeviceRevoked => Self::Revoked,
            _ => match code.retry() {
                Retry::AfterSignIn => Self::SignIn,
                Retry::AfterRenewal => Self::Renew,
                Retry::Later => Self::Later,
                Retry::No => Self::Stop,
            },
        }
    }
}

/// Does a refusal of one app request with this code say something about the whole session?
pub(crate) const fn concerns_session(code: Code) -> bool {
    matches!(code, Code::PostureStale) || code.number() < 200
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_are_told_from_other_refusals() {
        let revoked: Vec<_> = Code::ALL.iter().filter(|c| Verdict::of(**c) == Verdict::Revoked).collect();
        assert_eq!(revoked, [&Code::SessionRevoked, &Code::PrincipalRevoked, &Code::DeviceRevoked]);
        assert_eq!(Verdict::of(Code::TokenExpired), Verdict::Renew);
        assert_eq!(Verdict::of(Code::SessionUnknown), Verdict::SignIn);
        assert_eq!(Verdict::of(Code::RelayUnreachable), Verdict::Later);
        assert_eq!(Verdict::of(Code::RelayUntrusted), Verdict::Stop);
    }

    #[test]
    fn a_denied_app_says_nothing_about_the_session() {
        assert!(!concerns_session(Code::PolicyDenied));
        assert!(!concerns_session(Code::UpstreamTimeout));
        assert!(concerns_session(Code::TokenInvalid));
        assert!(concerns_session(Code::PostureStale));
    }
}
