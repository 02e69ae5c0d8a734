//! Who someone is, and whose keys say so: A10, A11, A14.

use crate::Site;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_tests::certificate::{authority, device_certificate, identity};
use postern_tests::device::exchange;
use postern_tests::forge::{TokenKey, claims_of, merge};
use postern_tests::server::{Server, json, redirect};
use postern_tests::world::mode;
use postern_tests::{App, Device, Quic, Relay, Settings, StandIn, Upstream, World};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::collections::BTreeSet;

/// A10: two users with one e-mail address are two users; no claim but (iss, sub) makes or merges an identity.
#[tokio::test]
async fn a10_identity_is_issuer_and_subject_whatever_the_mail_address() {
    let site = Site::new().await;
    let boss = json!({"email": "boss@corp.example", "name": "The Boss", "preferred_username": "boss"});
    let (mut ada, mut eve) = (Device::new(), Device::new());
    ada.enroll_as(&site.relay, &site.provider, "ada", merge(boss.clone(), &json!({"email_verified": true}))).await;
    let unverified = merge(boss.clone(), &json!({"email_verified": "false", "groups": []}));
    eve.enroll_as(&site.relay, &site.provider, "eve", unverified.clone()).await;
    let (ada_quic, eve_quic) = (ada.connect(&site.relay).await, eve.connect(&site.relay).await);
    ada.exchange_as(&ada_quic, &site.provider, "ada", boss).await;
    eve.exchange_as(&eve_quic, &site.provider, "eve", unverified.clone()).await;

    assert_eq!(ada.get(&ada_quic, "wiki", "/").await.status, 200);
    let identity = claims_of(site.wiki.last().header("x-postern-identity").unwrap());
    assert_eq!((&identity["sub"], &identity["idp"]), (&json!("ada"), &json!(site.provider.issuer)));
    assert_eq!(
        eve.get(&eve_quic, "wiki", "/").await.refusal(),
        (403, "policy_denied"),
        "the mail address brings no groups"
    );

    // Neither the address nor the device of the one is of use to the other.
    let as_eve = site.provider.id_token("eve", unverified);
    let reply = ada_quic.send(exchange(ada.exchange_form(&as_eve))).await.unwrap();
    assert!([401, 407].contains(&reply.status.as_u16()) && !reply.text().contains("access_token"), "{reply:?}");
    let claims = json!({"nonce": ada.nonce(), "email": "boss@corp.example"});
    let reply = site.relay.post("/enroll", &ada.enrolment(&site.provider.id_token("eve", claims))).await;
    assert_eq!(reply.refusal(), (403, "device_owned"));

    // Nor does an address name anybody where two have proven it; and what befalls the one spares the other.
    let mut bob = Device::new();
    let proven = json!({"email": "boss@corp.example", "email_verified": true});
    bob.enroll_as(&site.relay, &site.provider, "bob", proven).await;
    let ambiguous = site.relay.revoke("user", "boss@corp.example").await;
    assert!(
        ambiguous.code == 1 && ambiguous.stderr.contains("ada") && ambiguous.stderr.contains("bob"),
        "{ambiguous:?}"
    );
    assert!(!ambiguous.stderr.contains(" eve"), "an unverified address names somebody: {ambiguous:?}");
    site.relay.revoke("user", "eve").await.ok();
    assert_eq!(eve.get(&eve_quic, "wiki", "/").await.refusal(), (403, "principal_revoked"));
    assert_eq!(ada.get(&ada_quic, "wiki", "/").await.status, 200);
}

/// A11: signing keys come from the provider's own address and nowhere else, whatever a token or an answer says.
#[tokio::test]
async fn a11_keys_are_fetched_from_the_configured_provider_only() {
    let site = Site::new().await;
    let mine = TokenKey::p256("mine");
    let keys = json!({"keys": [mine.jwk()]});
    let elsewhere = Server::http(move |_| json(&keys)).await;
    let url = format!("http://{}/jwks", elsewhere.address);
    let device = Device::new();
    let claims = merge(site.provider.claims_of("ada"), &json!({"nonce": device.nonce()}));
    for header in [json!({"jku": url}), json!({"x5u": url}), json!({"kid": url}), json!({"jku": url, "kid": null})] {
        let reply = site.relay.post("/enroll", &device.enrolment(&mine.sign(&header, &claims))).await;
        assert_eq!(reply.refusal(), (401, "identity_token_invalid"), "{header}");
    }
    assert_eq!(elsewhere.asked().len(), 0, "the relay went where a token sent it");
}

/// A11: a provider that is taken over, or lied about, cannot send the relay to a metadata service or elsewhere.
#[tokio::test]
async fn a11_keys_are_not_fetched_from_link_local_addresses_or_through_redirects() {
    let mine = TokenKey::p256("stand-in-1");
    let keys = json!({"keys": [mine.jwk()]});
    let elsewhere = Server::http(move |_| json(&keys)).await;
    let away = format!("http://{}/jwks", elsewhere.address);
    for jwks_uri in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/jwks",
        "https://169.254.169.254/jwks",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ] {
        let reply = enrolment_with(&mine, |provider| provider.metadata(json!({"jwks_uri": jwks_uri}))).await;
        assert!(reply.1 == "provider_invalid" || reply.1 == "provider_unreachable", "{jwks_uri}: {reply:?}");
    }
    let redirecting = away.clone();
    let reply = enrolment_with(&mine, |provider| {
        provider.twist(move |asked| (asked.path() == "/jwks").then(|| redirect(&redirecting)));
    });
    assert_ne!(reply.await.0, 200);
    let reply = enrolment_with(&mine, |provider| {
        provider.twist(move |asked| asked.path().starts_with("/.well-known").then(|| redirect(&away)));
    });
    assert_ne!(reply.await.0, 200);
    assert_eq!(elsewhere.asked().len(), 0, "the relay followed a redirect");
}

/// Status and code of an enrolment at a relay whose provider is twisted before the relay starts.
async fn enrolment_with(key: &TokenKey, twist: impl FnOnce(&StandIn)) -> (u16, String) {
    let world = World::new();
    let provider = StandIn::start().await;
    twist(&provider);
    let relay = Relay::start(&world, Settings::new(&provider.issuer)).await;
    let device = Device::new();
    let claims = merge(provider.claims_of("ada"), &json!({"nonce": device.nonce()}));
    let reply = relay.post("/enroll", &device.enrolment(&key.sign(&json!({}), &claims))).await;
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

/// A11: any number of unknown key ids makes the relay look for new keys once in 30 s.
#[tokio::test]
async fn a11_unknown_key_ids_cannot_make_the_relay_hammer_the_provider() {
    let mut site = Site::new().await;
    site.signed_in("ada").await;
    let before = site.provider.server.count("/jwks");
    let claims = site.provider.claims_of("ada");
    let device = Device::new();
    let mut connection = site.relay.kept().await;
    for number in 0..2_000 {
        // The signature is never looked at: there is no key to check it with.
        let token = TokenKey::hmac(&format!("key-{number}"), b"x").sign(&json!({"alg": "ES256"}), &claims);
        let reply = connection.post("/enroll", &device.enrolment(&token)).await;
        assert_eq!(reply.refusal(), (401, "identity_token_invalid"));
    }
    let fetches = site.provider.server.count("/jwks") - before;
    assert!(fetches <= 1, "{fetches} fetches");
    site.is_sound().await;
}

/// A14: whoever holds every public certificate and key can forge neither a device, nor a token, nor an assertion.
#[tokio::test]
async fn a14_public_material_forges_nothing() {
    let site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;

    // A device certificate that reads as a real one, by an authority of the same name.
    let (real, _) = authority(&site.relay.dir.join("keys/device-ca"));
    let (leaf, key) = device_certificate(&lookalike(&real), |_| ());
    let lone = Quic::connect(&site.relay, Some(identity(std::slice::from_ref(&leaf), &key))).await;
    assert!(!served(lone).await, "a certificate of a look-alike authority opened a connection");
    let chained = Quic::connect(&site.relay, Some(identity(&[leaf, real], &key))).await;
    assert!(!served(chained).await, "the real authority's certificate lent its weight to a forged one");

    // Tokens keyed with public bytes.
    let claims = claims_of(&device.token);
    let files = ["device-ca.crt", "server-ca.crt", "audit.pub"];
    let files = files.map(|name| (name, std::fs::read(site.relay.dir.join("keys").join(name)).unwrap()));
    let keys = ["device-ca", "server-ca", "session", "identity", "audit"];
    let keys = keys.map(|name| (name, site.relay.public_key(name)));
    for (name, public) in files.into_iter().chain(keys) {
        let token = TokenKey::hmac("", &public).sign(&json!({"typ": "at+jwt", "kid": null}), &claims);
        let request = http::Request::get("/").header("host", "wiki");
        let request = request.header("proxy-authorization", format!("Bearer {token}")).body("").unwrap();
        assert_eq!(quic.send(request).await.unwrap().refusal(), (407, "token_invalid"), "{name}");
    }
}

/// A14: one key per purpose. No two of the relay's keys are the same, and the published one signs assertions alone.
#[tokio::test]
async fn a14_each_purpose_has_a_key_of_its_own() {
    let site = Site::new().await;
    let keys = site.relay.dir.join("keys");
    let (mut public, mut files) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "key") {
            let pair = KeyPair::from_pem(&std::fs::read_to_string(&path).unwrap()).unwrap();
            public.insert(pair.public_key_raw().to_vec());
            files += 1;
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
    assert!(files >= 5, "device authority, server authority, session, identity, audit: {files} keys");
    assert_eq!(public.len(), files, "two purposes share a key");

    let published = site.relay.get("/.well-known/jwks.json").await.json();
    let published = published["keys"].as_array().unwrap().clone();
    assert_eq!(published.len(), 1, "{published:?}");
    assert!(published[0].get("d").is_none(), "a private key is published");
    let identity = KeyPair::from_pem(&std::fs::read_to_string(keys.join("identity.key")).unwrap()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(&identity.public_key_raw()[1..33]);
    assert_eq!(published[0]["x"], x);
}

/// A14: nor do tokens and certificates travel from one relay to another, though both have an app of one name.
#[tokio::test]
async fn a14_a_session_token_of_one_relay_is_nothing_to_another() {
    let site = Site::new().await;
    let second_wiki = Upstream::plain().await;
    let settings = Settings::new(&site.provider.issuer).app(App::http("wiki", second_wiki.address));
    let second = Relay::start_named(&site.world, "second", settings).await;
    let (device, _) = site.signed_in("ada").await;
    let foreign = Quic::connect(&second, Some(device.identity())).await;
    assert!(!served(foreign).await, "a device certificate of one relay opened a connection to another");
    let (mut here, quic) = Device::signed_in(&second, &site.provider, "ada").await;
    here.token = device.token.clone();
    assert_eq!(here.get(&quic, "wiki", "/").await.refusal(), (407, "token_invalid"));
    assert_eq!(second_wiki.requests().len(), 0);
}

async fn served(connection: Result<Quic, String>) -> bool {
    match connection {
        Ok(quic) => quic.is_served().await,
        Err(_) => false,
    }
}

/// An authority with the same name and the same extensions as `real`, but another key.
fn lookalike(real: &CertificateDer<'_>) -> Issuer<'static, KeyPair> {
    let (_, parsed) = x509_parser::parse_x509_certificate(real).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for attribute in parsed.subject().iter_common_name() {
        params.distinguished_name.push(rcgen::DnType::CommonName, attribute.as_str().unwrap());
    }
    Issuer::new(params, KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
}
