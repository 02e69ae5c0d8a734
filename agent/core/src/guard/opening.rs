//! The first bytes to a `tcp` app: a browser can be made to send a request to any port, and many a protocol takes
//! what it understands of one and skips the rest.
//!
//! Bytes that are no HTTP/1 request pass, whatever they are, and so does a request to a proxy, which a page cannot
//! make a browser send. Any other request has to name this port by a loopback name, for no other name leads here
//! unless it was rebound, and must not come from a page of another origin.

use super::{Asked, Field, Relation, name_of, relation};
use postern_protocol::MAX_HEADER_BYTES;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// They may go on.
    Passes,
    /// A web page that may not reach this app made a browser send them.
    ForeignPage,
    /// The beginning of a request that does not show yet whose it is.
    Unclear,
}

/// Methods a page may use without asking. Others show by the path that follows them.
const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"OPTIONS ", b"PUT ", b"DELETE ", b"PATCH "];
const LONGEST_METHOD: usize = 32;

impl Opening {
    /// Judges what has arrived so far on `port`.
    pub fn of(bytes: &[u8], port: u16) -> Self {
        match Start::of(bytes) {
            Start::Other => Self::Passes,
            Start::Incomplete if bytes.len() < MAX_HEADER_BYTES => Self::Unclear,
            // A page can stretch its address until nothing else fits.
            Start::Incomplete => Self::ForeignPage,
            Start::Request { complete: false, .. } if bytes.len() < MAX_HEADER_BYTES => Self::Unclear,
            Start::Request { complete: false, .. } => Self::ForeignPage,
            Start::Request { method, headers, complete: true } => Self::of_request(method, headers, port),
        }
    }

    /// Judges what has arrived if no more follows, or not soon: a browser sends the head of a request at once.
    pub fn at_last(bytes: &[u8], port: u16) -> Self {
        match Start::of(bytes) {
            Start::Other | Start::Incomplete => Self::Passes,
            Start::Request { method, headers, .. } => Self::of_request(method, headers, port),
        }
    }

    fn of_request(method: &str, headers: &[u8], port: u16) -> Self {
        let asked = Asked {
            method,
            host: field(headers, "host"),
            target: None,
            origin: field(headers, "origin"),
            referer: Field::Absent,
            site: field(headers, "sec-fetch-site"),
            mode: Field::Absent,
            dest: Field::Absent,
        };
        let own = match asked.host {
            // Browsers always name a host.
            Field::Absent => asked.origin == Field::Absent && asked.site == Field::Absent,
            Field::Invalid => false,
            Field::One(authority) => match name_of(authority, port) {
                Some(host @ ("127.0.0.1" | "localhost")) => matches!(relation(&asked, host, port), Relation::Own),
                _ => false,
            },
        };
        if own { Self::Passes } else { Self::ForeignPage }
    }
}

/// How far bytes are the head of an HTTP/1 request to a path.
enum Start<'a> {
    Other,
    /// The request line is not here yet.
    Incomplete,
    Request {
        method: &'a str,
        /// Without the request line; as far as they are here.
        headers: &'a [u8],
        complete: bool,
    },
}

impl<'a> Start<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        if METHODS.iter().any(|method| method.starts_with(bytes)) {
            // Nothing at all begins every method, and is told apart by what follows.
            return if bytes.is_empty() { Self::Other } else { Self::Incomplete };
        }
        let Some(method) = bytes.split(|byte| *byte == b' ').next().and_then(|word| str::from_utf8(word).ok()) else {
            return Self::Other;
        };
        let is_method = (1..=LONGEST_METHOD).contains(&method.len()) && method.bytes().all(is_token);
        let rest = bytes.get(method.len() + 1..).unwrap_or_default();
        if !is_method || !matches!(rest.first(), Some(b'/' | b'*')) {
            return Self::Other;
        }
        let (line, headers) = split(rest, b"\r\n");
        match headers {
            None if line.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\r') => Self::Incomplete,
            Some(headers) if find(line, b" HTTP/1.").is_some() => {
                let complete = headers.starts_with(b"\r\n") || find(headers, b"\r\n\r\n").is_some();
                let (headers, _) = split(headers, b"\r\n\r\n");
                Self::Request { method, headers, complete }
            }
            _ => Self::Other,
        }
    }
}

/// A byte of a method's name (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn field<'a>(headers: &'a [u8], wanted: &str) -> Field<'a> {
    let mut found = Field::Absent;
    let mut left = Some(headers);
    while let Some(rest) = left {
        let (line, next) = split(rest, b"\r\n");
        left = next;
        let (name, Some(value)) = split(line, b":") else { continue };
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            found = match (found, str::from_utf8(value)) {
                (Field::Absent, Ok(value)) => Field::One(value.trim()),
                _ => Field::Invalid,
            };
        }
    }
    found
}

/// What is before `mark`, and what is after it if it is there.
fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match find(bytes, mark) {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + mark.len()..)),
        None => (bytes, None),
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORT: u16 = 8700;

    /// A18: a page cannot speak to a `tcp` app by way of an HTTP request, under whatever name.
    #[test]
    fn a18_a_page_cannot_open_a_tcp_app() {
        const OWN: &str = "Host: 127.0.0.1:8700\r\n";
        for (verdict, headers) in [
            (Opening::ForeignPage, format!("{OWN}Origin: https://evil.example\r\n")),
            (Opening::ForeignPage, format!("{OWN}Origin: null\r\n")),
            (Opening::ForeignPage, format!("{OWN}Sec-Fetch-Site: cross-site\r\n")),
            (Opening::ForeignPage, format!("{OWN}Sec-Fetch-Site: same-site\r\n")),
            (Opening::ForeignPage, format!("{OWN}{OWN}")),
            (Opening::ForeignPage, "Host: evil.example:8700\r\n".to_owned()),
            (Opening::ForeignPage, "Host: evil.example:8700\r\nSec-Fetch-Site: same-origin\r\n".to_owned()),
            (Opening::ForeignPage, "Origin: http://127.0.0.1:8700\r\n".to_owned()),
            (Opening::Passes, format!("{OWN}Sec-Fetch-Site: none\r\n")),
            (Opening::Passes, format!("{OWN}Sec-Fetch-Site: same-origin\r\nOrigin: http://127.0.0.1:8700\r\n")),
            (Opening::Passes, "Host: localhost:8700\r\nUser-Agent: curl/8\r\n".to_owned()),
            (Opening::Passes, String::new()),
        ] {
            for line in ["POST /x HTTP/1.1", "GET / HTTP/1.1", "eval /x HTTP/1.1", "OPTIONS * HTTP/1.1"] {
                let whole = format!("{line}\r\n{headers}\r\nFLUSHALL\r\n");
                assert_eq!(Opening::of(whole.as_bytes(), PORT), verdict, "{whole}");
                let head = format!("{line}\r\n{headers}");
                assert_eq!(Opening::of(head.as_bytes(), PORT), Opening::Unclear, "{head}");
                assert_eq!(Opening::at_last(head.as_bytes(), PORT), verdict, "{head}");
            }
        }
    }

    /// A18: cutting or stretching a request does not hide it.
    #[test]
    fn a18_a_part_of_a_request_is_waited_for() {
        let request = b"POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        for length in 1..request.len() {
            assert_eq!(Opening::of(&request[..length], PORT), Opening::Unclear, "{length}");
        }
        assert_eq!(Opening::of(request, PORT), Opening::ForeignPage);
        for long in [format!("POST /{}", "A".repeat(80_000)), format!("x / HTTP/1.1\r\nx: {}", "A".repeat(80_000))] {
            assert_eq!(Opening::of(long.as_bytes(), PORT), Opening::ForeignPage);
        }
    }

    #[test]
    fn other_protocols_pass_at_once() {
        for opening in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x16\x03\x01\x02\x00\x01",
            b"*1\r\n$4\r\nPING\r\n",
            b"PI",
            b"ping",
            b"GET key\r\n",
            b"EHLO x\r\nOrigin: https://evil.example\r\n",
            b"0032git-upload-pack /project.git\0host=x",
            b"hello world",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"",
        ] {
            assert_eq!(Opening::of(opening, PORT), Opening::Passes, "{opening:?}");
        }
    }

    proptest! {
        /// A30: no opening makes it panic.
        #[test]
        fn a30_any_bytes_open_or_not(bytes: Vec<u8>, headers in "(.{0,20}\r\n){0,4}") {
            Opening::of(&bytes, PORT);
            Opening::at_last(format!("GET / HTTP/1.1\r\n{headers}").as_bytes(), PORT);
        }
    }
}
