//! A map of secrets that forgets: every entry ends, and there is a most of them.

use crate::keys::sha256;
use std::collections::HashMap;
use std::time::Duration;

/// Values by secret. Only the secret's hash is kept. Times count from the Unix epoch.
pub(crate) struct Expiring<V> {
    entries: HashMap<[u8; 32], Entry<V>>,
    most: usize,
}

struct Entry<V> {
    value: V,
    ends: Duration,
}

/// There is no room for another entry.
#[derive(Debug)]
pub(crate) struct Full;

impl<V> Expiring<V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), most }
    }

    pub(crate) fn insert(&mut self, secret: &str, value: V, ends: Duration, now: Duration) -> Result<(), Full> {
        if self.entries.len() >= self.most {
            self.entries.retain(|_, entry| entry.ends > now);
        }
        if self.entries.len() >= self.most {
            return Err(Full);
        }
        self.entries.insert(sha256(secret), Entry { value, ends });
        Ok(())
    }

    pub(crate) fn get(&mut self, secret: &str, now: Duration) -> Option<&mut V> {
        self.entries.get_mut(&sha256(secret)).filter(|entry| entry.ends > now).map(|entry| &mut entry.value)
    }

    pub(crate) fn take(&mut self, secret: &str, now: Duration) -> Option<V> {
        self.entries.remove(&sha256(secret)).filter(|entry| entry.ends > now).map(|entry| entry.value)
    }

    /// Was there such an entry, and is it over?
    pub(crate) fn has_ended(&self, secret: &str, now: Duration) -> bool {
        self.entries.get(&sha256(secret)).is_some_and(|entry| entry.ends <= now)
    }
}

/// Limits wrong guesses, of whatever kind and by whomever: thirty at once, then one every two seconds.
pub(crate) struct Guesses {
    /// When all wrong guesses so far are forgiven.
    clear: Duration,
}

impl Guesses {
    const EACH: Duration = Duration::from_secs(2);
    const BURST: Duration = Duration::from_secs(60);

    pub(crate) const fn new() -> Self {
        Self { clear: Duration::ZERO }
    }

    /// May another guess be looked at?
    pub(crate) fn allowed(&self, now: Duration) -> bool {
        self.clear + Self::EACH <= now + Self::BURST
    }

    pub(crate) fn was_wrong(&mut self, now: Duration) {
        self.clear = self.clear.max(now) + Self::EACH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_entry_ends_and_is_taken_once() {
        let mut store = Expiring::new(2);
        store.insert("a", 1, at(10), at(0)).unwrap();
        assert_eq!(store.get("a", at(9)), Some(&mut 1));
        assert_eq!(store.get("a", at(10)), None);
        assert!(store.has_ended("a", at(10)) && !store.has_ended("b", at(10)));
        assert_eq!((store.take("a", at(9)), store.take("a", at(9))), (Some(1), None));
    }

    #[test]
    fn a_full_store_makes_room_only_of_what_ended() {
        let mut store = Expiring::new(2);
        store.insert("a", 1, at(10), at(0)).unwrap();
        store.insert("b", 2, at(20), at(0)).unwrap();
        assert!(store.insert("c", 3, at(20), at(5)).is_err());
        store.insert("c", 3, at(20), at(10)).unwrap();
    }

    #[test]
    fn guesses_run_out_and_come_back_slowly() {
        let mut guesses = Guesses::new();
        for _ in 0..30 {
            assert!(guesses.allowed(at(100)));
            guesses.was_wrong(at(100));
        }
        assert!(!guesses.allowed(at(101)));
        assert!(guesses.allowed(at(102)));
        guesses.was_wrong(at(102));
        assert!(!guesses.allowed(at(103)));
    }
}
