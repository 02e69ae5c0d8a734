//! Giving a refresh token back at sign-out (RFC 7009).

use super::Provider;
use super::metadata::web_problem;
use postern_protocol::{Code, Problem};
use secrecy::{ExposeSecret as _, SecretString};

impl Provider {
    /// Revokes the token, where the provider has an address for it; where it has none there is nobody to tell.
    pub async fn revoke(&self, refresh_token: &SecretString) -> Result<(), Problem> {
        let Some(url) = &self.metadata.revocation_endpoint else { return Ok(()) };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", refresh_token.expose_secret())
            .append_pair("token_type_hint", "refresh_token")
            .append_pair("client_id", &self.sign_in.client_id)
            .finish();
        let answer = self.web.post_form(url, form).await.map_err(|error| web_problem(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => {
                let code = if status.is_client_error() { Code::ProviderInvalid } else { Code::ProviderUnreachable };
                Err(Problem::new(code).detail(format!("{url} answers {}", status.as_u16())))
            }
        }
    }
}
