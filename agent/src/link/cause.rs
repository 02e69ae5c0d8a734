//! From an error of the transport to the problem that a person can act on.

use postern_protocol::{Code, Problem};
use quinn::{ConnectionError, ReadError, WriteError};
use std::error::Error;
use std::io;

/// TLS alerts that a relay sends about a client certificate (RFC 8446 §6.2).
const CERTIFICATE_ALERTS: [u8; 6] = [
    42,  // bad_certificate
    43,  // unsupported_certificate
    46,  // certificate_unknown
    48,  // unknown_ca
    51,  // decrypt_error: a signature does not fit
    116, // certificate_required
];
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_REVOKED: u8 = 44;
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// QUIC carries TLS alert `n` as transport error 0x100 + n (RFC 9001 §4.8).
const CRYPTO_ERRORS: u64 = 0x100;

/// Why a handshake failed. Whatever the other side *says* at this point may be anybody's word: the keys of the first
/// packets can be had by everyone on the path. Only what TLS found out by itself counts. (In TLS 1.3 a refused device
/// certificate shows after the client's side of the handshake is done, and then comes from the relay indeed.)
pub(super) fn of_handshake(error: &ConnectionError) -> Problem {
    match error {
        ConnectionError::TransportError(_) | ConnectionError::TimedOut | ConnectionError::LocallyClosed => {
            of_connection(error)
        }
        told => unreachable_relay(format!("no connection was made: {told}")),
    }
}

/// Why a connection ended.
pub(super) fn of_connection(error: &ConnectionError) -> Problem {
    match error {
        ConnectionError::ApplicationClosed(close) => match Code::from_number(close.error_code.into_inner()) {
            Some(code) => Problem::new(code),
            None => unreachable_relay("the relay closed the connection"),
        },
        ConnectionError::ConnectionClosed(close) => match alert(u64::from(close.error_code)) {
            Some(CERTIFICATE_EXPIRED) => Problem::new(Code::CertificateExpired),
            Some(CERTIFICATE_REVOKED) => Problem::new(Code::DeviceRevoked),
            Some(alert) if CERTIFICATE_ALERTS.contains(&alert) => Problem::new(Code::CertificateInvalid),
            Some(NO_APPLICATION_PROTOCOL) => Problem::new(Code::VersionUnsupported),
            _ => unreachable_relay(format!("the relay closed the connection: {}", close.error_code)),
        },
        ConnectionError::TransportError(error) => match alert(u64::from(error.code)) {
            Some(NO_APPLICATION_PROTOCOL) => Problem::new(Code::VersionUnsupported),
            Some(_) => Problem::new(Code::RelayUntrusted).detail(error.reason.clone()),
            None => unreachable_relay(error.to_string()),
        },
        ConnectionError::VersionMismatch => Problem::new(Code::VersionUnsupported),
        ConnectionError::TimedOut => unreachable_relay("it does not answer any more"),
        ConnectionError::LocallyClosed => unreachable_relay("the agent closed the connection"),
        other => unreachable_relay(other.to_string()),
    }
}

/// Why an HTTP exchange on a stream failed: the connection's end or the stream's reset where there is one.
pub(super) fn of_exchange(connection: &quinn::Connection, error: &hyper::Error) -> Problem {
    if let Some(ended) = connection.close_reason() {
        return of_connection(&ended);
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(code) = inner.downcast_ref::<io::Error>().and_then(code_of_reset) {
            return Problem::new(code);
        }
        source = inner.source();
    }
    if error.is_parse() {
        return Problem::new(Code::UpstreamInvalid).detail("the answer's head is malformed or too large");
    }
    Problem::new(Code::UpstreamInvalid).detail(format!("the exchange with the relay broke off: {error}"))
}

/// The code with which the relay reset a stream, out of the error that quinn's adapters to `io` wrap.
pub(super) fn code_of_reset(error: &io::Error) -> Option<Code> {
    let inner = error.get_ref()?;
    if let Some(ReadError::Reset(number)) = inner.downcast_ref::<ReadError>() {
        return Code::from_number(number.into_inner());
    }
    if let Some(WriteError::Stopped(number)) = inner.downcast_ref::<WriteError>() {
        return Code::from_number(number.into_inner());
    }
    None
}

fn alert(transport_error: u64) -> Option<u8> {
    u8::try_from(transport_error.checked_sub(CRYPTO_ERRORS)?).ok()
}

fn unreachable_relay(detail: impl Into<String>) -> Problem {
    Problem::new(Code::RelayUnreachable).detail(detail)
}
