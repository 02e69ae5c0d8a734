//! Secrets of any length in keyrings that take short ones (Windows ends at 2,560 bytes, others earlier in practice).
//!
//! A short secret lies under its name. A long one lies in parts in one of two slots, and under its name stands which
//! slot, how many parts and their digest. A new one is written to the other slot first: writing the name is the commit.

use super::{Inner, unavailable};
use postern_protocol::{Problem, binding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest value that is stored in one piece.
const PIECE: usize = 1200;
/// A refresh token of 64 KiB is an attack, not a token.
const MAX_PARTS: usize = 64;

/// First byte of what stands under the name.
const WHOLE: u8 = b'w';
const PARTS: u8 = b'p';

#[derive(Serialize, Deserialize)]
struct Head {
    slot: Slot,
    parts: usize,
    digest: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Slot {
    A,
    B,
}

impl Slot {
    const BOTH: [Self; 2] = [Self::A, Self::B];

    fn part(self, name: &str, index: usize) -> String {
        let letter = if self == Self::A { 'a' } else { 'b' };
        format!("{name}.{letter}{index}")
    }
}

pub(super) fn read(store: &mut Inner, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    let Some(stored) = store.get(name)? else { return Ok(None) };
    match stored.split_first() {
        Some((&WHOLE, value)) => Ok(Some(Zeroizing::new(value.to_vec()))),
        Some((&PARTS, head)) => Ok(Some(join(store, name, head)?)),
        _ => Err(damaged()),
    }
}

fn join(store: &mut Inner, name: &str, head: &[u8]) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let head: Head = serde_json::from_slice(head).map_err(|_| damaged())?;
    if head.parts > MAX_PARTS {
        return Err(damaged());
    }
    let mut value = Zeroizing::new(Vec::with_capacity(head.parts * PIECE));
    for index in 0..head.parts {
        value.extend_from_slice(&store.get(&head.slot.part(name, index))?.ok_or_else(damaged)?);
    }
    if binding::sha256(&value) == head.digest { Ok(value) } else { Err(damaged()) }
}

pub(super) fn write(store: &mut Inner, name: &str, value: &[u8]) -> Result<(), Problem> {
    let slot_in_use = slot_of(store, name)?;
    let mut stored = Zeroizing::new(Vec::with_capacity(PIECE + 1));
    if value.len() < PIECE {
        stored.push(WHOLE);
        stored.extend_from_slice(value);
    } else {
        let slot = if slot_in_use == Some(Slot::A) { Slot::B } else { Slot::A };
        let parts: Vec<_> = value.chunks(PIECE).collect();
        if parts.len() > MAX_PARTS {
            return Err(unavailable("the secret is too long to keep"));
        }
        for (index, part) in parts.iter().enumerate() {
            store.set(&slot.part(name, index), part)?;
        }
        let head = Head { slot, parts: parts.len(), digest: binding::sha256(value) };
        stored.push(PARTS);
        serde_json::to_writer(&mut *stored, &head).map_err(|_| damaged())?;
    }
    store.set(name, &stored)?;
    // The new value stands; parts of the old one that stay behind are overwritten or removed another time.
    if let Some(old) = slot_in_use {
        let _ = clear(store, name, old);
    }
    Ok(())
}

pub(super) fn remove(store: &mut Inner, name: &str) -> Result<(), Problem> {
    store.delete(name)?;
    for slot in Slot::BOTH {
        clear(store, name, slot)?;
    }
    Ok(())
}

/// Removes parts until one is missing: they are written in this order.
fn clear(store: &mut Inner, name: &str, slot: Slot) -> Result<(), Problem> {
    for index in 0..MAX_PARTS {
        if !store.delete(&slot.part(name, index))? {
            break;
        }
    }
    Ok(())
}

fn slot_of(store: &mut Inner, name: &str) -> Result<Option<Slot>, Problem> {
    let stored = store.get(name)?;
    let head = stored.as_deref().and_then(|stored| stored.strip_prefix(&[PARTS]));
    Ok(head.and_then(|head| serde_json::from_slice::<Head>(head).ok()).map(|head| head.slot))
}

fn damaged() -> Problem {
    unavailable("a secret in it is damaged")
}
