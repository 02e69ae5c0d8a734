//! Proving a log offline: with the public key alone, and better with a checkpoint kept elsewhere.

use super::chain::{Chain, CheckpointKey, open};

/// The place in a chain that a shell keeps elsewhere, to notice when the end was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of the line.
    pub seq: u64,
    /// Its hash.
    pub head: String,
}

/// What a log was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Lines, checkpoints included.
    pub lines: u64,
    /// Checkpoints among them.
    pub checkpoints: u64,
    /// Lines after the last checkpoint: chained, but not vouched for by a signature yet.
    pub unsigned: u64,
    /// The hash of the last line.
    pub head: String,
}

/// The first line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: &'static str,
}

/// Verifies the lines of a log, from its first. `expected` must be among them.
pub fn verify<I>(lines: I, key: &CheckpointKey, expected: Option<&Checkpoint>) -> Result<Report, Broken>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let mut chain = Chain::genesis(key);
    let mut report = Report { lines: 0, checkpoints: 0, unsigned: 0, head: chain.head().to_owned() };
    let mut found = expected.is_none_or(|at| at.seq == 0);
    for line in lines {
        chain = step(&chain, line.as_ref(), key, &mut report)?;
        report.lines += 1;
        if let Some(expected) = expected.filter(|at| at.seq == chain.seq()) {
            if expected.head != chain.head() {
                return Err(Broken { line: report.lines, why: "this is not the line that the relay remembers" });
            }
            found = true;
        }
    }
    if !found {
        return Err(Broken { line: report.lines + 1, why: "the log ends before a line that the relay remembers" });
    }
    report.head = chain.head().to_owned();
    Ok(report)
}

fn step(before: &Chain, line: &str, key: &CheckpointKey, report: &mut Report) -> Result<Chain, Broken> {
    let broken = |why| Broken { line: report.lines + 1, why };
    let (link, _) = open(line).map_err(|error| match error {
        super::ChainError::Hash => broken("the line was changed"),
        _ => broken("this is not a line of an audit log"),
    })?;
    if link.seq != before.seq() + 1 || link.prev != before.head() {
        return Err(broken("a line is missing, moved or put in before this one"));
    }
    match (link.event.as_str(), &link.signature) {
        ("checkpoint", Some(signature)) if key.vouches(before.seq(), before.head(), signature) => {
            report.checkpoints += 1;
            report.unsigned = 0;
        }
        ("checkpoint", _) => return Err(broken("the checkpoint is not signed by this key")),
        _ => report.unsigned += 1,
    }
    Chain::resume(line).map_err(|_| broken("this is not a line of an audit log"))
}
