//! JSON in printable ASCII: whatever a field holds can neither drive a terminal nor forge a line (A55).

use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

/// `value` on one line of printable ASCII.
pub fn line(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(512);
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Ascii));
    match (written, String::from_utf8(out)) {
        (Ok(()), Ok(line)) => line,
        // Neither happens: what is written has only named fields, and the formatter writes ASCII.
        _ => String::from("{}"),
    }
}

/// Compact JSON that writes every other character than printable ASCII as `\uXXXX`.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            if matches!(c, ' '..='~') {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
