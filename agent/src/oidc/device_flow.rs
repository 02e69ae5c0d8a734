//! Device authorization grant (RFC 8628): for machines without a browser.

use super::metadata::endpoint;
use super::requests::{Transport, client, problem_of};
use super::{Again, Provider, SignedIn, unacceptable};
use oauth2::{DeviceCodeErrorResponseType, RequestTokenError, Scope, StandardDeviceAuthorizationResponse};
use postern_protocol::problem::printable;
use postern_protocol::{Code, Problem};
use std::time::Duration;
use url::Url;

/// A person has at most this long, whatever the provider allows.
const PERSON_LIMIT: Duration = Duration::from_secs(10 * 60);
const MAX_CODE: usize = 64;
/// Asking more often than each second is a provider's mistake, less than each minute no service to the person.
const PACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the person is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePrompt {
    /// Open this.
    pub uri: Url,
    /// Or this, with the code in it.
    pub uri_complete: Option<Url>,
    /// And type this.
    pub user_code: String,
    /// Within this time.
    pub expires_in: Duration,
}

impl Provider {
    /// Signs in. `show` is given what the person is to do.
    ///
    /// There is no nonce in this flow: the relay takes its token once, within five minutes of its issue.
    pub async fn sign_in_with_device_code(&self, show: impl FnOnce(DevicePrompt) + Send) -> Result<SignedIn, Problem> {
        self.with_device_code(None, show).await
    }

    /// Signs in once more, as `wanted` says, and sees to it that the provider did so and that `person`
    /// agrees to who it is. RFC 8628 §3.1 lets a request have the parameters of other specifications; a provider that
    /// passes them over gives a token that shows it.
    pub async fn step_up_with_device_code(
        &self,
        wanted: &Again,
        show: impl FnOnce(DevicePrompt) + Send,
        person: impl Fn(&SignedIn) -> Result<(), Problem> + Sync,
    ) -> Result<SignedIn, Problem> {
        let signed_in = self.with_device_code(Some(wanted), show).await?;
        person(&signed_in)?;
        wanted.check(&signed_in)?;
        Ok(signed_in)
    }

    async fn with_device_code(
        &self,
        wanted: Option<&Again>,
        show: impl FnOnce(DevicePrompt) + Send,
    ) -> Result<SignedIn, Problem> {
        let client = client(&self.metadata, &self.sign_in.client_id);
        let transport = Transport::new(&self.web);
        let mut request =
            client.exchange_device_code().map_err(|_| unacceptable("the provider offers no device authorization"))?;
        for (name, value) in Again::parameters(wanted, self.sign_in.max_age) {
            request = request.add_extra_param(name, value);
        }
        let device: StandardDeviceAuthorizationResponse = request
            .add_scopes(self.sign_in.scopes.iter().cloned().map(Scope::new))
            .request_async(&transport)
            .await
            .map_err(|error| problem_of(&error, &transport, Code::SignInFailed))?;
        let prompt = self.prompt(&device)?;
        let limit = prompt.expires_in;
        show(prompt);
        let pause = |wanted: Duration| tokio::time::sleep(wanted.clamp(PACE.0, PACE.1));
        let request = client.exchange_device_access_token(&device);
        let answer = request.request_async(&transport, pause, Some(limit)).await.map_err(|error| match &error {
            RequestTokenError::ServerResponse(told) => match told.error() {
                DeviceCodeErrorResponseType::AccessDenied => Problem::new(Code::SignInCancelled),
                DeviceCodeErrorResponseType::ExpiredToken => Problem::new(Code::SignInTimeout),
                _ => problem_of(&error, &transport, Code::SignInFailed),
            },
            _ => problem_of(&error, &transport, Code::SignInFailed),
        })?;
        self.accept(&answer, None).await
    }

    fn prompt(&self, device: &StandardDeviceAuthorizationResponse) -> Result<DevicePrompt, Problem> {
        let page = |text: &str| endpoint("verification_uri", text, self.metadata.plain_loopback).map_err(unacceptable);
        let user_code = device.user_code().secret().clone();
        if user_code.is_empty() || user_code.len() > MAX_CODE || printable(&user_code) != user_code {
            return Err(unacceptable("its user code is not a code that a person can type"));
        }
        Ok(DevicePrompt {
            uri: page(device.verification_uri().as_str())?,
            uri_complete: device.verification_uri_complete().map(|uri| page(uri.secret())).transpose()?,
            user_code,
            expires_in: device.expires_in().min(PERSON_LIMIT),
        })
    }
}
