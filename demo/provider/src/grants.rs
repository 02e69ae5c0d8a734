//! What was granted to whom: codes, refresh families, device codes. Pure: time and secrets come in as arguments.

use crate::keys::{s256, sha256};
use crate::oauth::OauthError;
use crate::store::Expiring;
use std::time::Duration;
use url::Url;

/// A user's sign-in at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) username: String,
    /// When the password was typed: `auth_time`.
    pub(crate) at: Duration,
}

/// What a client asks for on behalf of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) resource: Option<String>,
}

impl Wish {
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|known| known == scope)
    }
}

/// A wish that a user granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) wish: Wish,
    pub(crate) sign_in: SignIn,
}

/// A grant on its way through the browser, as an authorization code.
pub(crate) struct Code {
    pub(crate) grant: Grant,
    pub(crate) redirect: Url,
    pub(crate) challenge: String,
    pub(crate) nonce: Option<String>,
    redeemed: Option<Redemption>,
}

/// Which refresh family a code began, so that a replay of the code can end it.
struct Redemption(Option<String>);

impl Code {
    pub(crate) const fn new(grant: Grant, redirect: Url, challenge: String, nonce: Option<String>) -> Self {
        Self { grant, redirect, challenge, nonce, redeemed: None }
    }
}

/// All refresh tokens of one sign-in. Only the newest is good.
struct Family {
    grant: Grant,
    current: [u8; 32],
}

/// A device code that waits for somebody to type its user code.
struct Device {
    wish: Wish,
    answer: Option<Result<SignIn, ()>>,
    pause: Duration,
    last_poll: Duration,
}

/// What is outstanding.
pub(crate) struct Grants {
    codes: Expiring<Code>,
    families: Expiring<Family>,
    devices: Expiring<Device>,
    user_codes: Expiring<String>,
}

const MOST: usize = 10_000;
const SLOW_DOWN: Duration = Duration::from_secs(5);

impl Grants {
    pub(crate) fn new() -> Self {
        Self {
            codes: Expiring::new(MOST),
            families: Expiring::new(MOST),
            devices: Expiring::new(MOST),
            user_codes: Expiring::new(MOST),
        }
    }

    pub(crate) fn add_code(&mut self, text: &str, code: Code, ends: Duration, now: Duration) -> Result<(), OauthError> {
        self.codes.insert(text, code, ends, now).map_err(|_| OauthError::busy())
    }

    /// The grant behind a code and the nonce to put in the ID token. Whoever presents a code has one try;
    /// a second presentation ends what the first began (RFC 6749 §4.1.2). `family` names what begins now.
    pub(crate) fn redeem(
        &mut self,
        text: &str,
        client: &str,
        redirect: &str,
        verifier: &str,
        family: Option<&str>,
        now: Duration,
    ) -> Result<(Grant, Option<String>), OauthError> {
        let code = self.codes.get(text, now).ok_or(OauthError::grant("the code is unknown or over"))?;
        if code.grant.wish.client != client {
            return Err(OauthError::grant("the code was given to another client"));
        }
        if let Some(Redemption(begun)) = &code.redeemed {
            if let Some(begun) = begun.clone() {
                self.families.take(&begun, now);
            }
            return Err(OauthError::grant("the code was used before; what it began has ended"));
        }
        code.redeemed = Some(Redemption(family.filter(|_| code.grant.wish.has("offline_access")).map(str::to_owned)));
        if code.redirect.as_str() != redirect {
            return Err(OauthError::grant("the redirect_uri is not that of the authorization request"));
        }
        if s256(verifier) != code.challenge {
            return Err(OauthError::grant("the code_verifier does not fit the code_challenge"));
        }
        Ok((code.grant.clone(), code.nonce.clone()))
    }

    /// Starts a family; `secret` is the changing part of its first token.
    pub(crate) fn begin_family(
        &mut self,
        family: &str,
        secret: &str,
        grant: Grant,
        ends: Duration,
        now: Duration,
    ) -> Result<(), OauthError> {
        let begun = Family { grant, current: sha256(secret) };
        self.families.insert(family, begun, ends, now).map_err(|_| OauthError::busy())
    }

    /// The grant behind a refresh token, whose changing part becomes `next`. A token that was replaced
    /// before is somebody's copy: the family ends (RFC 9700 §4.14.2).
    pub(crate) fn rotate(&mut self, token: &str, client: &str, next: &str, now: Duration) -> Result<Grant, OauthError> {
        const UNKNOWN: OauthError = OauthError::grant("the refresh token is unknown, over or revoked");
        let (family, secret) = token.split_once('.').ok_or(UNKNOWN)?;
        let found = self.families.get(family, now).ok_or(UNKNOWN)?;
        if found.grant.wish.client != client {
            return Err(OauthError::grant("the refresh token was given to another client"));
        }
        if found.current != sha256(secret) {
            self.families.take(family, now);
            return Err(OauthError::grant("the refresh token was used before; all of its family have ended"));
        }
        found.current = sha256(next);
        Ok(found.grant.clone())
    }

    /// Ends the family of a refresh token if it is the client's (RFC 7009 §2.1).
    pub(crate) fn revoke(&mut self, token: &str, client: &str, now: Duration) {
        let family = token.split_once('.').map_or(token, |(family, _)| family);
        if self.families.get(family, now).is_some_and(|found| found.grant.wish.client == client) {
            self.families.take(family, now);
        }
    }

    pub(crate) fn add_device(
        &mut self,
        device_code: &str,
        user_code: &str,
        wish: Wish,
        pause: Duration,
        ends: Duration,
        now: Duration,
    ) -> Result<(), OauthError> {
        let device = Device { wish, answer: None, pause, last_poll: Duration::ZERO };
        self.devices.insert(device_code, device, ends, now).map_err(|_| OauthError::busy())?;
        self.user_codes.insert(user_code, device_code.into(), ends, now).map_err(|_| OauthError::busy())
    }

    /// Is this a code that somebody waits for?
    pub(crate) fn knows_user_code(&mut self, user_code: &str, now: Duration) -> bool {
        self.user_codes.get(user_code, now).is_some()
    }

    /// Records what the person said; a user code is good for one answer.
    pub(crate) fn answer_device(&mut self, user_code: &str, answer: Result<SignIn, ()>, now: Duration) -> bool {
        let Some(device_code) = self.user_codes.take(user_code, now) else { return false };
        match self.devices.get(&device_code, now) {
            Some(device) => device.answer = Some(answer),
            None => return false,
        }
        true
    }

    /// A poll of the device grant (RFC 8628 §3.5).
    pub(crate) fn poll(&mut self, device_code: &str, client: &str, now: Duration) -> Result<Grant, OauthError> {
        if self.devices.has_ended(device_code, now) {
            return Err(OauthError::new("expired_token", "nobody entered the code in time"));
        }
        let unknown = OauthError::grant("the device code is unknown or used");
        let device = self.devices.get(device_code, now).filter(|d| d.wish.client == client).ok_or(unknown)?;
        if now.saturating_sub(device.last_poll) < device.pause {
            device.pause += SLOW_DOWN;
            return Err(OauthError::new("slow_down", "wait longer between polls"));
        }
        device.last_poll = now;
        if device.answer.is_none() {
            return Err(OauthError::new("authorization_pending", "nobody has entered the code yet"));
        }
        let device = self.devices.take(device_code, now).ok_or(unknown)?;
        match device.answer {
            Some(Ok(sign_in)) => Ok(Grant { wish: device.wish, sign_in }),
            _ => Err(OauthError::new("access_denied", "the person said no")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wish() -> Wish {
        Wish { client: "postern".into(), scope: "openid offline_access".into(), resource: None }
    }

    fn grant() -> Grant {
        Grant { wish: wish(), sign_in: SignIn { username: "ada".into(), at: at(1000) } }
    }

    #[test]
    fn a_family_ends_when_a_replaced_token_comes_back() {
        let mut grants = Grants::new();
        grants.begin_family("f", "1", grant(), at(9000), at(1000)).unwrap();
        grants.rotate("f.1", "postern", "2", at(1001)).unwrap();
        assert_eq!(grants.rotate("f.2", "other", "3", at(1002)).unwrap_err().code, "invalid_grant");
        grants.rotate("f.2", "postern", "3", at(1003)).unwrap();
        assert!(grants.rotate("f.1", "postern", "4", at(1004)).is_err());
        assert!(grants.rotate("f.3", "postern", "4", at(1005)).is_err(), "the newest token died with its family");
    }

    #[test]
    fn a_family_ends_in_time_however_often_it_rotates() {
        let mut grants = Grants::new();
        grants.begin_family("f", "1", grant(), at(2000), at(1000)).unwrap();
        grants.rotate("f.1", "postern", "2", at(1999)).unwrap();
        assert!(grants.rotate("f.2", "postern", "3", at(2000)).is_err());
    }

    #[test]
    fn polling_too_fast_slows_down_and_an_answer_counts_once() {
        let mut grants = Grants::new();
        grants.add_device("d", "BCDF-GHJK", wish(), at(2), at(1600), at(1000)).unwrap();
        assert_eq!(grants.poll("d", "postern", at(1000)).unwrap_err().code, "authorization_pending");
        assert_eq!(grants.poll("d", "postern", at(1001)).unwrap_err().code, "slow_down");
        assert_eq!(grants.poll("d", "postern", at(1006)).unwrap_err().code, "slow_down", "now 7 seconds are asked for");
        assert!(grants.answer_device("BCDF-GHJK", Ok(grant().sign_in), at(1007)));
        assert!(!grants.answer_device("BCDF-GHJK", Err(()), at(1007)));
        assert_eq!(grants.poll("d", "other", at(1100)).unwrap_err().code, "invalid_grant");
        assert_eq!(grants.poll("d", "postern", at(1100)).unwrap(), grant());
        assert_eq!(grants.poll("d", "postern", at(1200)).unwrap_err().code, "invalid_grant");
    }

    #[test]
    fn a_device_code_ends() {
        let mut grants = Grants::new();
        grants.add_device("d", "BCDF-GHJK", wish(), at(2), at(1600), at(1000)).unwrap();
        assert_eq!(grants.poll("d", "postern", at(1600)).unwrap_err().code, "expired_token");
        assert!(!grants.answer_device("BCDF-GHJK", Ok(grant().sign_in), at(1600)));
    }

    #[test]
    fn a_denied_device_is_told_so() {
        let mut grants = Grants::new();
        grants.add_device("d", "BCDF-GHJK", wish(), at(2), at(1600), at(1000)).unwrap();
        assert!(grants.answer_device("BCDF-GHJK", Err(()), at(1001)));
        assert_eq!(grants.poll("d", "postern", at(1002)).unwrap_err().code, "access_denied");
    }
}
