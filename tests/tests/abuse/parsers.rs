//! A30: everything the relay parses, fed with noise and with good things gone slightly wrong.

use crate::Site;
use postern_protocol::control::TYPE_ID_TOKEN;
use postern_tests::certificate::{authority, identity};
use postern_tests::device::{exchange, exchange_form};
use postern_tests::forge::merge;
use postern_tests::process::run;
use postern_tests::{Device, Quic, Settings, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rcgen::Issuer;
use rustls::pki_types::CertificateDer;
use serde_json::json;

/// How many inputs each parser gets here; the crates' own property tests run far more, without a network.
const TRIES: usize = 60;

/// `good` with a few bytes changed, cut out, doubled or put in, or replaced by noise.
fn mangled(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = good.len();
    let edit = (0..length.max(1), 0u8..5, any::<u8>(), 1usize..40);
    prop_oneof![
        4 => proptest::collection::vec(edit, 1..6).prop_map(move |edits| {
            let mut bytes = good.clone();
            for (at, kind, byte, count) in edits {
                let at = at.min(bytes.len().saturating_sub(1));
                let end = (at + count).min(bytes.len());
                match kind {
                    0 if !bytes.is_empty() => bytes[at] = byte,
                    1 => drop(bytes.drain(at..end)),
                    2 => bytes.splice(at..at, std::iter::repeat_n(byte, count)).for_each(drop),
                    3 => bytes.truncate(at),
                    _ => bytes.extend_from_within(at..end),
                }
            }
            bytes
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..600),
    ]
}

/// [`TRIES`] values of `strategy`, the same in each run.
fn samples<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..TRIES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// A30: certificate requests, tokens and whole documents at the public listener.
#[tokio::test]
async fn a30_mangled_enrolments_do_no_harm() {
    let mut site = Site::new().await;
    let device = Device::new();
    let token = site.provider.id_token("ada", json!({"nonce": device.nonce()}));
    let good = device.enrolment(&token);
    for csr in samples(mangled(device.csr().into_bytes())) {
        let text = String::from_utf8_lossy(&csr).into_owned();
        let reply = site.relay.post("/enroll", &merge(good.clone(), &json!({"csr": text}))).await;
        assert!(reply.status == 200 || reply.status.is_client_error(), "{reply:?}");
    }
    for token in samples(mangled(token.clone().into_bytes())) {
        let text = String::from_utf8_lossy(&token).into_owned();
        let body = merge(device.enrolment(&text), &json!({"device_name": text}));
        assert!(!site.relay.post("/enroll", &body).await.status.is_server_error());
    }
    for body in samples(mangled(good.to_string().into_bytes())) {
        let request = http::Request::post("/enroll").header("host", site.relay.public.to_string());
        let reply = site.relay.public(request.header("content-type", "application/json").body(body).unwrap()).await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
    }
    // Well signed, so that the claims are read; most of the bytes above break the signature.
    let claims = merge(site.provider.claims_of("ada"), &json!({"nonce": device.nonce()}));
    let odd =
        prop_oneof![Just(json!(null)), Just(json!(-0.5)), Just(json!(1e308)), Just(json!([[]])), Just(json!({"a": 1}))];
    for (name, value) in samples(("(iss|sub|aud|azp|exp|iat|nbf|groups|acr|amr|auth_time|email|name|nonce)", odd)) {
        let token = site.provider.key.sign(&json!({}), &merge(claims.clone(), &json!({ name: value })));
        assert!(!site.relay.post("/enroll", &device.enrolment(&token)).await.status.is_server_error());
    }
    site.is_sound().await;
}

/// A30: tokens, headers and bodies of requests over mTLS.
#[tokio::test]
async fn a30_mangled_requests_do_no_harm() {
    let mut site = Site::new().await;
    let (device, quic) = site.signed_in("ada").await;
    for token in samples(mangled(device.token.clone().into_bytes())) {
        let mut bytes = b"GET / HTTP/1.1\r\nhost: wiki\r\nproxy-authorization: Bearer ".to_vec();
        bytes.extend_from_slice(&token);
        bytes.extend_from_slice(b"\r\n\r\n");
        quic.raw(&bytes).await;
    }
    let token = site.provider.id_token("ada", json!({}));
    for form in samples(mangled(device.exchange_form(&token).into_bytes())) {
        let reply = quic.control(exchange(form)).await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
    }
    // Each part by itself: in a whole request that is mangled, few of them come to be read.
    for session in samples("[0-9a-f]{0,40}|\\PC{0,8}") {
        let form = exchange_form(&token, TYPE_ID_TOKEN, &session);
        assert!(!quic.control(exchange(form)).await.status.is_server_error(), "{session:?}");
    }
    for path in samples("/([ -~]|%[0-9a-fA-F]{2}|%[ -~]{2}){0,12}") {
        quic.raw(&device.head(&format!("GET {path} HTTP/1.1"), "wiki", "")).await;
    }
    for (name, value) in
        samples(("(connection|cookie|upgrade|te|forwarded|x-postern-identity)", "[ -~\u{80}-\u{ff}]{0,20}"))
    {
        quic.raw(&device.head("GET / HTTP/1.1", "wiki", &format!("{name}: {value}\r\n"))).await;
    }
    let lines = "x-a: b\r\ncookie: c=d\r\ntransfer-encoding: chunked\r\n";
    let mut whole = device.head("POST /a?b=c HTTP/1.1", "wiki", lines);
    whole.extend_from_slice(b"3;x=y\r\nabc\r\n0\r\nx-t: v\r\n\r\n");
    for bytes in samples(mangled(whole)) {
        quic.raw(&bytes).await;
    }
    site.is_sound().await;
}

/// A30: client certificates in the handshake.
#[tokio::test]
async fn a30_mangled_certificates_do_no_harm() {
    let mut site = Site::new().await;
    let (device, _) = site.signed_in("ada").await;
    let (certificate, key) = authority(&site.relay.dir.join("keys/device-ca"));
    let issuer = Issuer::from_ca_cert_der(&certificate, &key).unwrap();
    for der in samples(mangled(device.chain[0].to_vec())).into_iter().filter(|der| *der != *device.chain[0]) {
        let mut forged = device.identity();
        forged.chain = vec![CertificateDer::from(der)];
        if let Ok(quic) = Quic::connect(&site.relay, Some(forged)).await {
            assert!(!quic.is_served().await, "a mangled certificate was accepted");
        }
    }
    // Signed by the right authority, so that only our own reading of it stands in the way.
    for text in samples("[ -~]{0,40}|spiffe://[a-z./%0-9]{0,60}") {
        let (leaf, key) = postern_tests::certificate::device_certificate(&issuer, |params| {
            params.subject_alt_names = text.as_str().try_into().map(rcgen::SanType::URI).into_iter().collect();
        });
        if let Ok(quic) = Quic::connect(&site.relay, Some(identity(&[leaf], &key))).await {
            assert!(!quic.is_served().await, "accepted as a device: {text:?}");
        }
    }
    site.is_sound().await;
}

/// A30: configuration files and policies.
#[tokio::test]
async fn a30_mangled_configurations_do_no_harm() {
    let world = World::new();
    let dir = world.path("relay");
    world.postern_relay(&["init", dir.to_str().unwrap()]).await.ok();
    postern_tests::relay::configure(&dir, &Settings::new("http://127.0.0.1:1"));
    for name in ["relay.toml", "policy.cedar"] {
        let file = dir.join(name);
        let good = std::fs::read(&file).unwrap();
        for content in samples(mangled(good.clone())).into_iter().take(30) {
            std::fs::write(&file, &content).unwrap();
            let output =
                run(world.command("postern-relay").args(["check", "--config"]).arg(dir.join("relay.toml"))).await;
            assert!(output.code == 0 || output.code == 1, "{name}: {output:?}");
            assert!(!output.stderr.contains("panicked"), "{name}: {output:?}");
            assert!(output.code == 0 || !output.stderr.is_empty(), "{name} is refused without a word");
        }
        std::fs::write(&file, good).unwrap();
    }
}
