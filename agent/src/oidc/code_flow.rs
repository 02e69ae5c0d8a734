//! Authorization code with PKCE in the system browser (RFC 8252), bound to the device key by its nonce.

use super::redirect::{Callback, Expected, Redirect};
use super::requests::{Transport, client, problem_of};
use super::{Again, Browser, Provider, SignedIn};
use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use postern_protocol::{Code, Problem};
use std::pin::pin;
use std::time::Duration;
use url::Url;

/// A person has this long to sign in.
const PERSON_LIMIT: Duration = Duration::from_secs(10 * 60);

impl Provider {
    /// Signs in. `show` is given the address before the browser opens.
    pub async fn sign_in(
        &self,
        nonce: &str,
        browser: Browser,
        show: impl FnOnce(&Url) + Send,
    ) -> Result<SignedIn, Problem> {
        self.authorize(nonce, None, browser, show, &|_| Ok(())).await
    }

    /// Signs in once more, as `wanted` says (OpenID Connect Core §3.1.2.1), and sees to it that the
    /// provider did so and that `person` agrees to who it is. Where the agent is to open the browser and cannot, nobody
    /// would ever see the page: that ends it.
    pub async fn step_up(
        &self,
        nonce: &str,
        wanted: &Again,
        browser: Browser,
        show: impl FnOnce(&Url) + Send,
        person: impl Fn(&SignedIn) -> Result<(), Problem> + Sync,
    ) -> Result<SignedIn, Problem> {
        let judge = |signed_in: &SignedIn| person(signed_in).and_then(|()| wanted.check(signed_in));
        self.authorize(nonce, Some(wanted), browser, show, &judge).await
    }

    async fn authorize(
        &self,
        nonce: &str,
        wanted: Option<&Again>,
        browser: Browser,
        show: impl FnOnce(&Url) + Send,
        judge: &(dyn Fn(&SignedIn) -> Result<(), Problem> + Sync),
    ) -> Result<SignedIn, Problem> {
        // Without S256 a stolen code could be used by the thief: better no sign-in than that one.
        if !self.metadata.has_s256 {
            return Err(Problem::new(Code::ProviderNoS256));
        }
        let redirect = Redirect::bind(self.sign_in.redirect_port).await?;
        let uri =
            RedirectUrl::new(redirect.uri()).map_err(|error| Problem::new(Code::Internal).detail(error.to_string()))?;
        let client = client(&self.metadata, &self.sign_in.client_id).set_redirect_uri(uri);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(self.sign_in.scopes.iter().cloned().map(Scope::new))
            .add_extra_param("nonce", nonce)
            .set_pkce_challenge(challenge);
        // OpenID Connect Core §11 wants consent for offline access; providers that do not know the prompt choke on it.
        if self.metadata.knows_consent && self.sign_in.scopes.iter().any(|scope| scope == "offline_access") {
            request = request.add_extra_param("prompt", "consent");
        }
        for (name, value) in Again::parameters(wanted, self.sign_in.max_age) {
            request = request.add_extra_param(name, value);
        }
        let (url, state) = request.url();
        let issuer = self.metadata.issuer.as_str().to_owned();
        let expected = Expected {
            state: state.into_secret(),
            issuer: self.metadata.names_itself.then(|| issuer.clone()),
            known_issuer: issuer,
        };
        show(&url);
        let open = async {
            match browser.open(&url).await {
                Err(problem) if wanted.is_some() => return Err(problem),
                // The address was shown: whoever reads it can open it.
                Err(problem) => {
                    tracing::warn!(code = %problem.code, detail = problem.detail, "the browser was not opened");
                }
                Ok(()) => {}
            }
            Ok(())
        };
        let wait = async {
            let mut answer = pin!(redirect.wait(expected));
            tokio::select! {
                early = &mut answer => return early,
                opened = open => opened?,
            }
            answer.await
        };
        let mut callback =
            tokio::time::timeout(PERSON_LIMIT, wait).await.map_err(|_| Problem::new(Code::SignInTimeout))??;
        let result = match std::mem::replace(&mut callback.outcome, Err(Problem::new(Code::Internal))) {
            Ok(code) => {
                let transport = Transport::new(&self.web);
                let request = client.exchange_code(AuthorizationCode::new(code)).set_pkce_verifier(verifier);
                match request.request_async(&transport).await {
                    // Before the page tells the person how it went.
                    Ok(answer) => self
                        .accept(&answer, Some(nonce))
                        .await
                        .and_then(|signed_in| judge(&signed_in).map(|()| signed_in)),
                    Err(error) => Err(problem_of(&error, &transport, Code::SignInFailed)),
                }
            }
            Err(problem) => Err(problem),
        };
        tell(callback, &result);
        result
    }
}

fn tell(callback: Callback, result: &Result<SignedIn, Problem>) {
    callback.finish(result.as_ref().err());
}
