//! ID tokens: verified here too, though the relay is the one to judge, so that the agent acts for nobody else's answer.

use super::{Provider, failed, metadata};
use openidconnect::core::{CoreGenderClaim, CoreJsonWebKey, CoreJwsSigningAlgorithm};
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, IdToken, IdTokenClaims, IdTokenVerifier, JsonWebKeySet, Nonce,
    SignatureVerificationError,
};
use postern_protocol::control::Principal;
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many seconds the provider's clock may be ahead.
const LEEWAY: i64 = 60;

/// Asymmetric ones only: with a secret that everybody shares anyone could sign.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoMore {}

impl AdditionalClaims for NoMore {}

type Token =
    IdToken<NoMore, CoreGenderClaim, openidconnect::core::CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Claims = IdTokenClaims<NoMore, CoreGenderClaim>;

/// What a verified ID token tells.
pub(super) struct Verified {
    pub(super) principal: Principal,
    pub(super) fresh_for: Duration,
    /// When the person proved themself (`auth_time`).
    pub(super) auth_time: Option<Timestamp>,
    pub(super) acr: Option<String>,
}

/// Verifies a token that came straight from the token endpoint. With `nonce` it must carry that very nonce.
pub(super) async fn verify(provider: &Provider, token: &str, nonce: Option<&str>) -> Result<Verified, Problem> {
    let token = Token::from_str(token).map_err(|error| refused(&error.to_string()))?;
    let keys = Arc::clone(&provider.keys.read());
    let claims = match check(provider, &token, (*keys).clone(), nonce) {
        Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::CryptoError(_),
        )) => {
            // The provider may have changed its keys since they were read. Once: the token chooses nothing of this.
            let fresh = Arc::new(metadata::fetch_keys(&provider.web, &provider.metadata).await?);
            *provider.keys.write() = Arc::clone(&fresh);
            check(provider, &token, (*fresh).clone(), nonce)
        }
        result => result,
    };
    let claims = claims.map_err(|error| refused(&error.to_string()))?;
    check_authorized_party(&claims, &provider.sign_in.client_id)?;
    Ok(Verified {
        principal: principal(&claims),
        fresh_for: fresh_for(&claims, provider.sign_in.token_max_age),
        auth_time: claims.auth_time().map(|at| Timestamp::default().plus(seconds(at.timestamp()))),
        acr: claims.auth_context_ref().map(|acr| acr.as_str().to_owned()),
    })
}

fn check(
    provider: &Provider,
    token: &Token,
    keys: JsonWebKeySet<CoreJsonWebKey>,
    nonce: Option<&str>,
) -> Result<Claims, ClaimsVerificationError> {
    let client = ClientId::new(provider.sign_in.client_id.clone());
    let verifier = IdTokenVerifier::new_public_client(client, provider.metadata.issuer.clone(), keys)
        .set_allowed_algs(ALGORITHMS)
        .set_issue_time_verifier_fn(|issued| {
            let ahead = issued.timestamp().saturating_sub(now_seconds());
            if ahead > LEEWAY { Err("it comes from the future".into()) } else { Ok(()) }
        })
        // Other audiences beside this client are judged below, by the authorized party.
        .set_other_audience_verifier_fn(|_| true);
    match nonce {
        Some(nonce) => token.claims(&verifier, &Nonce::new(nonce.to_owned())).cloned(),
        None => token.claims(&verifier, |_: Option<&Nonce>| Ok(())).cloned(),
    }
}

/// OpenID Connect Core §3.1.3.7, rules 4 and 5.
fn check_authorized_party(claims: &Claims, client_id: &str) -> Result<(), Problem> {
    match claims.authorized_party() {
        Some(party) if party.as_str() != client_id => Err(refused("it was issued to another client")),
        None if claims.audiences().len() > 1 => {
            Err(refused("it has several audiences and does not say for whom it was issued"))
        }
        _ => Ok(()),
    }
}

fn principal(claims: &Claims) -> Principal {
    let short = |text: &str| printable(text).chars().take(200).collect::<String>();
    Principal {
        issuer: claims.issuer().to_string(),
        subject: claims.subject().to_string(),
        email: claims.email().map(|email| short(email)),
        name: claims.name().and_then(|name| name.get(None)).map(|name| short(name)),
        groups: Vec::new(),
    }
}

/// The relay counts from `iat`; so does this, by the local clock, and never beyond the token's own life.
fn fresh_for(claims: &Claims, max_age: u64) -> Duration {
    let (issued, ends) = (claims.issue_time().timestamp(), claims.expiration().timestamp());
    let life = seconds(ends.saturating_sub(issued)).min(Duration::from_secs(max_age));
    life.saturating_sub(seconds(now_seconds().saturating_sub(issued)))
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn refused(why: &str) -> Problem {
    let why: String = printable(why).chars().take(300).collect();
    if why.contains("expired") || why.contains("future") {
        return Problem::new(Code::IdentityTokenStale)
            .detail(format!("the ID token was refused: {why}; check the clock"));
    }
    failed(format!("the ID token was refused: {why}"))
}
