//! Giving a refresh token back at sign-out (RFC 7009).

use super::Provider;
use crate::web::WebError;
use secrecy::{ExposeSecret as _, SecretString};

impl Provider {
    /// Revokes the token, where the provider has an address for it. Best effort: says whether it was done.
    pub async fn revoke(&self, refresh_token: &SecretString) -> bool {
        let Some(url) = &self.metadata.revocation_endpoint else { return false };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", refresh_token.expose_secret())
            .append_pair("token_type_hint", "refresh_token")
            .append_pair("client_id", &self.sign_in.client_id)
            .finish();
        let answer: Result<_, WebError> = self.web.post_form(url, form).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}
