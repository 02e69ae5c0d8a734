//! The path as it is judged. It has one reading, or it is refused (A46).

use crate::limits::MAX_PATH_BYTES;
use postern_protocol::Code;
use std::borrow::Cow;

/// Is the path one that upstream and policy cannot read differently?
pub fn check_path(path: &str) -> Result<(), Code> {
    readings(path).map(drop)
}

/// The path as policies see it, in each way an upstream may read it: percent-decoded once and, where segments
/// carry parameters (`/admin;x/`), also without those. Every reading must be allowed. The path itself is sent on as it
/// came. Refused is what more decoding or resolving would change: dot segments, empty segments,
/// backslashes and control characters, as such or encoded, and double encoding.
pub(crate) fn readings(path: &str) -> Result<Vec<Cow<'_, str>>, Code> {
    let decoded = decode(path).filter(|path| is_plain(path)).ok_or(Code::PathAmbiguous)?;
    if !decoded.contains(';') {
        return Ok(vec![decoded]);
    }
    let bare: Vec<&str> = decoded.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    let bare = bare.join("/");
    if is_plain(&bare) { Ok(vec![decoded, bare.into()]) } else { Err(Code::PathAmbiguous) }
}

/// Absolute, and every segment but an empty last one is a name.
fn is_plain(path: &str) -> bool {
    let hostile = |c: char| c.is_control() || c == '\\';
    let named = |segment: &str| !matches!(segment, "" | "." | "..");
    match path.strip_prefix('/') {
        Some("") => true,
        Some(rest) => !path.contains(hostile) && rest.strip_suffix('/').unwrap_or(rest).split('/').all(named),
        None => false,
    }
}

/// Decodes once; nothing if a character may not stand in a path, an escape is broken, hides another escape, or
/// the result is not UTF-8.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if path.len() > MAX_PATH_BYTES || !path.bytes().all(|b| b.is_ascii_graphic() && !b"#?\"<>`".contains(&b)) {
        return None;
    }
    if !path.contains('%') {
        return Some(path.into());
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { (hex(bytes.next()?)? << 4) | hex(bytes.next()?)? } else { byte };
        decoded.push(byte);
    }
    let decoded = String::from_utf8(decoded).ok()?;
    (!escapes(&decoded)).then_some(decoded.into())
}

/// Would another decoding change it?
fn escapes(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| matches!(w, [b'%', a, b] if hex(*a).is_some() && hex(*b).is_some()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
