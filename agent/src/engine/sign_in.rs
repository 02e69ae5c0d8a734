//! The sign-in: from an address to a token that the relay takes, step by step as the person sees it.

use super::clock;
use super::held::{Held, Relay};
use super::setup::Setup;
use crate::config::ServiceAccount;
use crate::discovery;
use crate::enroll::{self, Enrolment};
use crate::oidc::{Browser, DevicePrompt, Provider, SignedIn};
use aws_lc_rs::rand;
use postern_agent_core::{Account, Tokens};
use postern_protocol::binding::{self, Salt};
use postern_protocol::control::EnrollRequest;
use postern_protocol::local::{LoginEvent, LoginMethod, LoginRequest};
use postern_protocol::{Code, Problem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use tokio::sync::mpsc;
use url::Url;

/// The last relay, where nothing else names one.
#[derive(Clone)]
pub(super) struct LastRelay {
    pub(super) address: Url,
    pub(super) ca_pem: Option<String>,
    /// The provider of the session there, until it is signed out of.
    pub(super) issuer: Option<Url>,
}

/// A sign-in that someone asked for, or the agent itself.
pub(super) struct SignIn {
    pub(super) setup: Arc<Setup>,
    pub(super) request: LoginRequest,
    pub(super) last: Option<LastRelay>,
    /// To whoever asked; nobody need be listening.
    pub(super) steps: Option<mpsc::Sender<LoginEvent>>,
}

/// Who signs in when `request` is made under this configuration: a service account needs no browser.
pub(super) fn account(setup: &Setup, request: &LoginRequest) -> Account {
    match (request.method, &setup.config.service_account) {
        (LoginMethod::ServiceAccount, _) => Account::Service,
        (LoginMethod::Browser | LoginMethod::NoBrowser, Some(_)) => Account::Service,
        _ => Account::Person,
    }
}

/// The relay's address that `request` is about.
pub(super) fn address(setup: &Setup, request: &LoginRequest, last: Option<&LastRelay>) -> Result<Url, Problem> {
    match (&request.address, &setup.config.relay, last) {
        (Some(text), _, _) | (None, Some(text), _) => discovery::parse_address(text),
        (None, None, Some(last)) => Ok(last.address.clone()),
        (None, None, None) => Err(Problem::new(Code::RequestInvalid)
            .detail("no relay is named")
            .advice(None, Some("Sign in: open Postern, or run: postern login ADDRESS".into()))),
    }
}

impl SignIn {
    /// Does it all; what is held afterwards has everything but a certificate.
    pub(super) async fn run(self) -> Result<Held, Problem> {
        let address = address(&self.setup, &self.request, self.last.as_ref())?;
        let ca_pem = self.authority(&address)?;
        let account = account(&self.setup, &self.request);
        // The keyring's question comes before the browser, and the key before the sign-in that is bound to it.
        let service = match account {
            Account::Service => Some(self.service()?),
            Account::Person => None,
        };
        let device = match &service {
            Some(service) => self.setup.service_device(service.device_key_file.clone()).await?,
            None => self.setup.device(self.request.allow_memory_only).await?,
        };
        self.tell(LoginEvent::KeyReady { storage: device.storage.to_owned() });
        let discovery = Arc::new(discovery::fetch(&address, ca_pem.as_deref()).await?);
        if account == Account::Service {
            self.check_same_provider(&address, &discovery.sign_in.issuer)?;
        }
        let provider = Arc::new(Provider::discover(&discovery.sign_in).await?);
        let (signed_in, salt) = match &service {
            Some(service) => {
                let secret = service.client_secret()?;
                (provider.sign_in_as_service(&service.client_id, &secret).await?, None)
            }
            None => self.person(&provider, &device.key.spki()).await?,
        };
        self.tell(LoginEvent::SignedIn);
        Ok(Held {
            account,
            relay: Relay { address, ca_pem, discovery },
            device,
            provider: Some(provider),
            proof: Some(signed_in.proof),
            salt,
            refresh_token: signed_in.refresh_token,
            certificate: None,
            session: None,
            principal: signed_in.principal,
            signed_in: (account == Account::Person).then(|| signed_in.auth_time.unwrap_or_else(clock::wall)),
        })
    }

    async fn person(&self, provider: &Provider, spki: &[u8]) -> Result<(SignedIn, Option<Salt>), Problem> {
        let browser = match self.request.method {
            LoginMethod::DeviceCode => {
                let show = |prompt: DevicePrompt| self.tell(prompt_event(prompt));
                return Ok((provider.sign_in_with_device_code(show).await?, None));
            }
            LoginMethod::NoBrowser => Browser::Shown,
            LoginMethod::Browser | LoginMethod::ServiceAccount => Browser::System,
        };
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| Problem::new(Code::Internal).detail("no randomness"))?;
        let salt = Salt::new(bytes);
        let nonce = binding::nonce(spki, &salt);
        let show = |url: &Url| self.tell(LoginEvent::Authorize { url: url.clone() });
        Ok((provider.sign_in(&nonce, browser, show).await?, Some(salt)))
    }

    fn service(&self) -> Result<ServiceAccount, Problem> {
        self.setup.config.service_account.clone().ok_or_else(|| {
            Problem::new(Code::ConfigInvalid).detail("the configuration has no [service_account] to sign in as")
        })
    }

    /// No person sees where a service account's secret goes, so it goes where it went before.
    fn check_same_provider(&self, address: &Url, issuer: &Url) -> Result<(), Problem> {
        let before = self.last.as_ref().filter(|last| last.address == *address).and_then(|last| last.issuer.as_ref());
        match before {
            Some(before) if before != issuer => Err(Problem::new(Code::DiscoveryInvalid)
                .detail(format!("the relay names the provider {issuer}, before it was {before}"))
                .advice(None, Some("If that is meant, run: postern logout. Then sign in again.".into()))),
            _ => Ok(()),
        }
    }

    /// The further authority: the one given now, else the configured one, else what served for this relay before.
    fn authority(&self, address: &Url) -> Result<Option<String>, Problem> {
        if let Some(pem) = &self.request.ca_pem {
            if CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).next().is_none() {
                return Err(Problem::new(Code::RequestInvalid).detail("the authority holds no certificate in PEM"));
            }
            return Ok(Some(pem.clone()));
        }
        let before = self.last.as_ref().filter(|last| last.address == *address).and_then(|last| last.ca_pem.clone());
        Ok(self.setup.config.ca_pem.clone().or(before))
    }

    fn tell(&self, step: LoginEvent) {
        if let Some(steps) = &self.steps {
            let _ = steps.try_send(step);
        }
    }
}

pub(super) fn prompt_event(prompt: DevicePrompt) -> LoginEvent {
    LoginEvent::DeviceCode {
        verification_uri: prompt.uri,
        verification_uri_complete: prompt.uri_complete,
        user_code: prompt.user_code,
        expires: clock::wall().plus(prompt.expires_in),
    }
}

/// What the machine has to know of the sign-in.
pub(super) fn tokens(held: &Held) -> Tokens {
    Tokens {
        fresh_for: held.proof.as_ref().map(|proof| proof.fresh_for).unwrap_or_default(),
        renewable: held.account == Account::Service || held.refresh_token.is_some(),
        rotated: true,
    }
}

/// Exchanges the sign-in for a certificate and a session.
pub(super) async fn enroll(held: Held, device_name: Option<&str>) -> Result<Enrolment, Problem> {
    let proof = held.proof.as_ref().ok_or_else(|| Problem::new(Code::Internal).detail("no proof to enrol with"))?;
    let request = EnrollRequest {
        csr: held.device.key.certificate_request()?,
        token: Some(proof.token.expose_secret().to_owned()),
        token_type: Some(proof.kind.token_type().to_owned()),
        salt: held.salt.clone(),
        device_name: enroll::device_name(device_name),
    };
    let (relay, domain) = (&held.relay, &held.relay.discovery.trust_domain);
    let enrolment = enroll::enroll(&relay.address, relay.ca_pem.as_deref(), domain, &held.device.key, &request).await;
    enrolment.map_err(|problem| match problem.code {
        // The administrator needs the thumbprint, and this is the moment it is missed.
        Code::ServiceAccountUnregistered => {
            let thumbprint = held.device.key.thumbprint();
            problem.detail(format!("this agent's key has the thumbprint {thumbprint}"))
        }
        _ => problem,
    })
}
