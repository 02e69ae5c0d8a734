//! Which live streams a cause concerns: by principal, device, session and app, and by the deadline of their permits.

use crate::principal::PrincipalKey;
use postern_protocol::{AppName, DeviceId, SessionId, Timestamp};
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// The streams that a cause concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All: the policy changed.
    Everything,
    /// All of a principal's.
    Principal(PrincipalKey),
    /// All of a device's.
    Device(DeviceId),
    /// All of a session's.
    Session(SessionId),
    /// All that lead to an app.
    App(AppName),
}

/// What a filed stream is found by. None of it may change while it is filed.
pub trait Filed {
    /// Whose it is.
    fn principal(&self) -> &PrincipalKey;
    /// On which device.
    fn device(&self) -> &DeviceId;
    /// In which session.
    fn session(&self) -> &SessionId;
    /// Where it leads.
    fn app(&self) -> &AppName;
}

/// Filed streams by number. Finding those of a scope costs as much as there are in it, not as there are in all.
#[derive(Debug)]
pub struct Index<T> {
    entries: HashMap<u64, Entry<T>>,
    principals: Keyed<PrincipalKey>,
    devices: Keyed<DeviceId>,
    sessions: Keyed<SessionId>,
    apps: Keyed<AppName>,
    deadlines: BTreeSet<(Timestamp, u64)>,
}

#[derive(Debug)]
struct Entry<T> {
    filed: T,
    /// Nothing: it has come for good.
    deadline: Option<Timestamp>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            principals: Keyed::default(),
            devices: Keyed::default(),
            sessions: Keyed::default(),
            apps: Keyed::default(),
            deadlines: BTreeSet::new(),
        }
    }
}

impl<T: Clone, F: Filed> Index<T>
where
    T: std::ops::Deref<Target = F>,
{
    /// Files a stream under a number that no other has.
    pub fn insert(&mut self, number: u64, filed: T, deadline: Timestamp) {
        self.principals.insert(filed.principal(), number);
        self.devices.insert(filed.device(), number);
        self.sessions.insert(filed.session(), number);
        self.apps.insert(filed.app(), number);
        self.deadlines.insert((deadline, number));
        self.entries.insert(number, Entry { filed, deadline: Some(deadline) });
    }

    /// Takes a stream off the files.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let Entry { filed, deadline } = self.entries.remove(&number)?;
        self.principals.remove(filed.principal(), number);
        self.devices.remove(filed.device(), number);
        self.sessions.remove(filed.session(), number);
        self.apps.remove(filed.app(), number);
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(filed)
    }

    /// Gives a filed stream another deadline, unless it is retired.
    pub fn set_deadline(&mut self, number: u64, deadline: Timestamp) {
        if let Some(Entry { deadline: Some(last), .. }) = self.entries.get_mut(&number) {
            self.deadlines.remove(&(*last, number));
            self.deadlines.insert((deadline, number));
            *last = deadline;
        }
    }

    /// From now on a filed stream has no deadline: all that remains is that it goes.
    pub fn retire(&mut self, number: u64) {
        if let Some(deadline) = self.entries.get_mut(&number).and_then(|entry| entry.deadline.take()) {
            self.deadlines.remove(&(deadline, number));
        }
    }

    /// Adds those of `scope` to `found`.
    pub fn select(&self, scope: &Scope, found: &mut Vec<T>) {
        match scope {
            Scope::Everything => found.extend(self.entries.values().map(|entry| entry.filed.clone())),
            Scope::Principal(key) => self.collect(self.principals.of(key), found),
            Scope::Device(id) => self.collect(self.devices.of(id), found),
            Scope::Session(id) => self.collect(self.sessions.of(id), found),
            Scope::App(name) => self.collect(self.apps.of(name), found),
        }
    }

    /// Adds those whose deadline has come to `found`.
    pub fn due(&self, now: Timestamp, found: &mut Vec<T>) {
        let numbers = self.deadlines.range(..=(now, u64::MAX)).map(|(_, number)| *number);
        self.collect(numbers, found);
    }

    /// The first deadline.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many are filed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nothing filed?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn collect(&self, numbers: impl Iterator<Item = u64>, found: &mut Vec<T>) {
        found.extend(numbers.filter_map(|number| self.entries.get(&number)).map(|entry| entry.filed.clone()));
    }
}

/// Numbers by key. A key without numbers is not kept.
#[derive(Debug)]
struct Keyed<K>(HashMap<K, BTreeSet<u64>>);

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    fn insert(&mut self, key: &K, number: u64) {
        match self.0.get_mut(key) {
            Some(numbers) => {
                numbers.insert(number);
            }
            None => {
                self.0.insert(key.clone(), BTreeSet::from([number]));
            }
        }
    }

    fn remove(&mut self, key: &K, number: u64) {
        if let Some(numbers) = self.0.get_mut(key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn of<Q>(&self, key: &Q) -> impl Iterator<Item = u64>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests;
