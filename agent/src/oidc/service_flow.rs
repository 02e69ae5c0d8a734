//! Client credentials: how a service account signs in, and how it refreshes.

use super::requests::{Transport, client, problem_of};
use super::{Provider, SignedIn};
use oauth2::ClientSecret;
use postern_protocol::{Code, Problem};
use secrecy::{ExposeSecret as _, SecretString};

impl Provider {
    /// An access token for the relay, on the account's own secret.
    pub async fn sign_in_as_service(&self, client_id: &str, secret: &SecretString) -> Result<SignedIn, Problem> {
        let client =
            client(&self.metadata, client_id).set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        let transport = Transport::new(&self.web);
        let mut request = client.exchange_client_credentials();
        if let Some(resource) = &self.sign_in.resource {
            request = request.add_extra_param("resource", resource);
        }
        let answer = request
            .request_async(&transport)
            .await
            .map_err(|error| problem_of(&error, &transport, Code::SignInFailed))?;
        let proof = self.access_proof(&answer)?;
        Ok(SignedIn { proof, refresh_token: None, principal: None, auth_time: None, acr: None })
    }
}
