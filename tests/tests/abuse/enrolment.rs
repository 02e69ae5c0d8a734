//! Enrolment and renewal: A25, A26, A27, A30.

use crate::Site;
use postern_protocol::control::{TYPE_ACCESS_TOKEN, TYPE_ID_TOKEN};
use postern_tests::Device;
use postern_tests::client::Reply;
use postern_tests::device::{exchange, exchange_form};
use postern_tests::forge::{TokenKey, merge, now, random};
use postern_tests::quic::Quic;
use postern_tests::stand_in::RESOURCE;
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// A25: nothing that can leak and lie about enrols a device: it takes a fresh ID token that was bound to the device's
/// key when the user signed in.
#[tokio::test]
async fn a25_a_leaked_secret_alone_gives_no_certificate() {
    let site = Site::new().await;
    let victim = Device::new();
    let leaked = site.provider.id_token("ada", json!({"nonce": victim.nonce()}));
    let thief = Device::new();

    let mut attempts = vec![
        ("no token", json!({"csr": thief.csr(), "device_name": "thief"})),
        ("a leaked ID token", thief.enrolment(&leaked)),
        ("a leaked ID token and its salt", merge(thief.enrolment(&leaked), &json!({"salt": victim.salt}))),
        ("a leaked ID token without salt", merge(thief.enrolment(&leaked), &json!({"salt": null}))),
        ("the victim's request with another's salt", merge(victim.enrolment(&leaked), &json!({"salt": thief.salt}))),
    ];
    // The public half of everything: the certificate request is public, but it proves the victim's key only.
    let client = random(32);
    attempts.push(("a shared secret", merge(thief.enrolment(&client), &json!({"token_type": TYPE_ID_TOKEN}))));
    for (what, body) in &attempts {
        refused(what, &site.relay.post("/enroll", body).await);
    }
    let unbound = site.relay.post("/enroll", &thief.enrolment(&leaked)).await;
    assert_eq!(unbound.refusal(), (401, "identity_token_unbound"));

    // It was the right token all along; and it enrols once.
    let mut victim = victim;
    let body = victim.enrolment(&leaked);
    victim.accept(&site.relay.post("/enroll", &body).await);
    assert_eq!(site.relay.post("/enroll", &body).await.refusal(), (401, "identity_token_used"));

    // Without a nonce (device code) a token enrols one key once, and soon after its issue or never.
    let device_code = site.provider.id_token("ada", json!({}));
    let mut first = Device::new();
    let without_salt = |device: &Device, token: &str| merge(device.enrolment(token), &json!({"salt": null}));
    first.accept(&site.relay.post("/enroll", &without_salt(&first, &device_code)).await);
    let again = site.relay.post("/enroll", &without_salt(&thief, &device_code)).await;
    assert_eq!(again.refusal(), (401, "identity_token_used"));
    let old = site.provider.id_token("ada", json!({"iat": now() - 400, "exp": now() + 300}));
    assert_eq!(site.relay.post("/enroll", &without_salt(&thief, &old)).await.refusal(), (401, "identity_token_stale"));
}

/// A26: every enrolment and renewal endpoint with every bad token gives zero certificates and zero session tokens.
#[tokio::test]
async fn a26_no_endpoint_gives_anything_for_any_bad_token() {
    let site = Site::with(|settings| settings.service_account("ci-runner", &Device::new().thumbprint())).await;
    let (device, quic) = site.signed_in("ada").await;
    let issued = enrolments(&site);
    for (what, token) in bad_tokens(&site, &device) {
        for token_type in [TYPE_ID_TOKEN, TYPE_ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt", ""] {
            let what = format!("{what} as {token_type:?}");
            let fresh = Device::new();
            for applicant in [&device, &fresh] {
                let body = merge(applicant.enrolment(&token), &json!({"token_type": token_type}));
                refused(&what, &site.relay.post("/enroll", &body).await);
            }
            let form = exchange_form(&token, token_type, &device.session());
            refused(&what, &quic.control(exchange(form)).await);
        }
        refused(what, &renewal(&quic, &format!("Bearer {token}"), &device.csr()).await);
        refused(what, &renewal(&quic, &token, &device.csr()).await);
    }
    // A good session token renews the certificate of its own key, and of no other.
    let bearer = format!("Bearer {}", device.token);
    refused("another key", &renewal(&quic, &bearer, &Device::new().csr()).await);
    refused("no request", &renewal(&quic, &bearer, "").await);
    assert_eq!(enrolments(&site), issued, "a certificate was issued");
    assert_eq!(renewal(&quic, &bearer, &device.csr()).await.status, 200, "honest renewal works");

    // Renewal ends with the session.
    site.relay.revoke("session", &device.session()).await.ok();
    assert_eq!(renewal(&quic, &bearer, &device.csr()).await.refusal(), (407, "session_revoked"));
    let good = site.provider.id_token("ada", json!({}));
    refused("a revoked session", &quic.send(exchange(device.exchange_form(&good))).await.unwrap());
}

fn bad_tokens(site: &Site, device: &Device) -> Vec<(&'static str, String)> {
    let provider = &site.provider;
    let bound = json!({"nonce": device.nonce()});
    let with = |changes: Value| provider.id_token("ada", merge(bound.clone(), &changes));
    let stranger = TokenKey::p256(&provider.key.id);
    let claims = merge(provider.claims_of("ada"), &bound);
    vec![
        ("nothing", String::new()),
        ("garbage", random(40)),
        ("dots", "..".into()),
        ("an opaque token", format!("{}.{}", random(20), random(20))),
        ("an expired token", with(json!({"exp": now() - 600, "iat": now() - 900}))),
        ("another issuer", with(json!({"iss": "https://evil.example"}))),
        ("another audience", with(json!({"aud": "other"}))),
        ("another key", stranger.sign(&json!({}), &claims)),
        ("no signature", TokenKey::none(&provider.key.id).sign(&json!({}), &claims)),
        ("a logout token", provider.key.sign(&json!({"typ": "logout+jwt"}), &claims)),
        ("an ID token for another key", provider.id_token("ada", json!({"nonce": random(32), "aud": "other"}))),
        ("an unregistered service account", provider.access_token("somebody", json!({"aud": RESOURCE}))),
        ("a service account on another key", provider.access_token("ci-runner", json!({}))),
        ("a service account for another audience", provider.access_token("ci-runner", json!({"aud": "urn:other"}))),
        ("a token of 40 KB", format!("{}.{}.{}", random(1000), "A".repeat(40_000), random(64))),
    ]
}

/// A27: of a certificate request only the key counts; what else it asks for is not there in the certificate.
#[tokio::test]
async fn a27_the_relays_template_decides_every_field() {
    let site = Site::new().await;
    let device = Device::new();
    let mut greedy = CertificateParams::new(vec!["postern.relay".into(), "127.0.0.1".into()]).unwrap();
    greedy.distinguished_name.push(DnType::CommonName, "relay administrator");
    greedy
        .subject_alt_names
        .push(SanType::URI("spiffe://corp.example/device/00000000000000000000000000000000".try_into().unwrap()));
    // basicConstraints with CA:TRUE, written by hand because no honest library asks for it.
    greedy.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]));
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::CodeSigning];
    let csr = greedy.serialize_request(&device.key).unwrap().pem().unwrap();
    let token = site.provider.id_token("ada", json!({"nonce": device.nonce()}));
    let body = merge(device.enrolment(&token), &json!({"csr": csr}));
    let reply = site.relay.post("/enroll", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());

    let answer = reply.json();
    let der = CertificateDer::from_pem_slice(answer["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    let wanted = format!("spiffe://corp.example/device/{}", answer["device"].as_str().unwrap());
    assert_eq!(format!("{names:?}"), format!("[URI({wanted:?})]"));
    assert!(!leaf.is_ca() && leaf.subject().iter().count() == 0, "{:?}", leaf.subject());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.code_signing && usage.other.is_empty());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    assert_eq!(leaf.validity().not_after.timestamp() * 1000, answer["not_after"].as_i64().unwrap());
    assert!(leaf.validity().not_after.timestamp() - i64::try_from(now()).unwrap() <= 24 * 3600 + 60);
}

/// A27: keys that are too weak, of another kind, or not the applicant's own are refused.
#[tokio::test]
async fn a27_weak_foreign_and_unproven_keys_are_refused() {
    let site = Site::new().await;
    let device = Device::new();
    let request = |key: &KeyPair| CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let good = device.csr();
    let mut tampered = pem_bytes(&good);
    *tampered.last_mut().unwrap() ^= 1;
    let swapped = graft(&pem_bytes(&good), &device, &Device::new());
    for (what, csr) in [
        ("an RSA key of 1024 bits", include_str!("rsa-1024.csr").to_owned()),
        ("P-384", request(&p384)),
        ("Ed25519", request(&ed25519)),
        ("a broken signature", pem_of(&tampered)),
        ("another's key under one's own signature", pem_of(&swapped)),
        ("two requests", format!("{good}{good}")),
        ("a certificate", good.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
        ("nothing", String::new()),
    ] {
        let token = site.provider.id_token("ada", json!({"nonce": device.nonce()}));
        let body = merge(device.enrolment(&token), &json!({"csr": csr}));
        assert_eq!(site.relay.post("/enroll", &body).await.refusal(), (400, "csr_invalid"), "{what}");
    }
}

/// `request` with the bytes of `from`'s key replaced by those of `to`'s.
fn graft(request: &[u8], from: &Device, to: &Device) -> Vec<u8> {
    let old = from.key.public_key_raw();
    let at = request.windows(old.len()).position(|window| window == old).unwrap();
    let mut bytes = request.to_vec();
    bytes[at..at + old.len()].copy_from_slice(to.key.public_key_raw());
    bytes
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

/// A renewal over mTLS with this credential.
async fn renewal(quic: &Quic, credential: &str, csr: &str) -> Reply {
    let body = json!({"csr": csr, "device_name": "renewed"}).to_string();
    let request = http::Request::post("/enroll").header("host", "postern.relay");
    let request = request.header("content-type", "application/json").header("proxy-authorization", credential);
    quic.control(request.body(body.into()).unwrap()).await
}

#[track_caller]
fn refused(what: &str, reply: &Reply) {
    assert!(reply.status.is_client_error(), "{what}: {reply:?}");
    let text = reply.text();
    assert!(!text.contains("CERTIFICATE-----") && !text.contains("access_token"), "{what}: {text}");
    assert!(reply.problem().fix.is_some(), "{what} says nothing of what to do");
}

/// How many certificates the relay has issued, by its own audit log.
fn enrolments(site: &Site) -> usize {
    let issued = |record: &&Value| record["event"] == "enrolment" || record["event"] == "certificate_renewal";
    site.relay.audit().iter().filter(issued).filter(|record| record["result"] == "allow").count()
}
