//! Reads a log from its end, for the log is long: its last line, and whether it still goes on from the line that the
//! relay remembers.

use postern_relay_core::audit::{Chain, Checkpoint};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// A line is never longer than this.
const MAX_LINE: u64 = 1024 * 1024;

/// The last whole line, and where it ends.
pub(super) fn last_line(file: &mut File, size: u64) -> io::Result<(u64, Option<String>)> {
    let mut span = 64 * 1024;
    loop {
        let (start, tail) = read_end(file, size, span)?;
        let end = tail.iter().rposition(|byte| *byte == b'\n');
        let before = tail.get(..end.unwrap_or(0)).unwrap_or_default().iter().rposition(|byte| *byte == b'\n');
        let begin = match (end, before) {
            (None, _) if start == 0 => return Ok((0, None)),
            (Some(_), Some(before)) => before + 1,
            (Some(_), None) if start == 0 => 0,
            _ if span > MAX_LINE => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no audit log")),
            _ => {
                span *= 4;
                continue;
            }
        };
        let end = end.unwrap_or(0);
        let line = tail.get(begin..end).unwrap_or_default();
        return Ok((start + end as u64 + 1, Some(String::from_utf8_lossy(line).into_owned())));
    }
}

/// Does the log, whose whole lines end at `length`, hold the remembered line and go on from it to `end` unbroken?
pub(super) fn goes_on_from(file: &mut File, length: u64, remembered: &Checkpoint, end: &Chain) -> io::Result<bool> {
    let first = format!("{{\"seq\":{},", remembered.seq);
    let mut span = 1024 * 1024;
    loop {
        let (start, tail) = read_end(file, length, span)?;
        let text = String::from_utf8_lossy(&tail);
        // Unless the reading began at the beginning, its first line may be half of one.
        let whole = if start == 0 { Some(&*text) } else { text.split_once('\n').map(|(_, rest)| rest) };
        let mut lines = whole.unwrap_or_default().lines().skip_while(|line| !line.starts_with(&first));
        if let Some(line) = lines.next() {
            let Ok(mut chain) = Chain::resume(line) else { return Ok(false) };
            if chain.head() != remembered.head {
                return Ok(false);
            }
            for line in lines {
                let Ok(next) = chain.extend(line) else { return Ok(false) };
                chain = next;
            }
            return Ok(chain == *end);
        }
        if start == 0 {
            return Ok(false);
        }
        span *= 4;
    }
}

/// At most `span` bytes up to `length`, and where they begin.
fn read_end(file: &mut File, length: u64, span: u64) -> io::Result<(u64, Vec<u8>)> {
    let start = length.saturating_sub(span);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length - start).read_to_end(&mut bytes)?;
    Ok((start, bytes))
}
