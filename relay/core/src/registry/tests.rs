//! The index against the plainest model there is: a list that is looked through.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, PartialEq)]
struct Stream {
    number: u64,
    principal: PrincipalKey,
    device: DeviceId,
    session: SessionId,
    app: AppName,
}

impl Filed for Stream {
    fn principal(&self) -> &PrincipalKey {
        &self.principal
    }
    fn device(&self) -> &DeviceId {
        &self.device
    }
    fn session(&self) -> &SessionId {
        &self.session
    }
    fn app(&self) -> &AppName {
        &self.app
    }
}

/// A stream of one of few principals, devices, sessions and apps, so that they meet.
fn stream(number: u64, keys: [u8; 4]) -> Arc<Stream> {
    let [principal, device, session, app] = keys.map(|key| key % 3);
    Arc::new(Stream {
        number,
        principal: principal_of(principal),
        device: device_of(device),
        session: SessionId::from_random(session.into()),
        app: app_of(app),
    })
}

fn principal_of(key: u8) -> PrincipalKey {
    PrincipalKey::new("https://login.corp.example", &format!("user-{key}")).unwrap()
}

fn device_of(key: u8) -> DeviceId {
    DeviceId::from_key_hash(&[key; 32])
}

fn app_of(key: u8) -> AppName {
    format!("app-{key}").parse().unwrap()
}

fn scopes() -> Vec<Scope> {
    let each = |key: u8| {
        [
            Scope::Principal(principal_of(key)),
            Scope::Device(device_of(key)),
            Scope::Session(SessionId::from_random(key.into())),
            Scope::App(app_of(key)),
        ]
    };
    (0..3).flat_map(each).chain([Scope::Everything]).collect()
}

fn concerns(scope: &Scope, stream: &Stream) -> bool {
    match scope {
        Scope::Everything => true,
        Scope::Principal(key) => stream.principal == *key,
        Scope::Device(id) => stream.device == *id,
        Scope::Session(id) => stream.session == *id,
        Scope::App(name) => stream.app == *name,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open([u8; 4], u64),
    Close(usize),
    Extend(usize, u64),
    Retire(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<[u8; 4]>(), 0_u64..50).prop_map(|(keys, deadline)| Step::Open(keys, deadline)),
        1 => any::<usize>().prop_map(Step::Close),
        1 => (any::<usize>(), 0_u64..50).prop_map(|(which, deadline)| Step::Extend(which, deadline)),
        1 => any::<usize>().prop_map(Step::Retire),
    ]
}

proptest! {
    #[test]
    fn it_finds_what_a_look_through_a_list_finds(steps in prop::collection::vec(step(), 0..80)) {
        let mut index = Index::default();
        let mut model: BTreeMap<u64, (Arc<Stream>, Option<Timestamp>)> = BTreeMap::new();
        for (number, step) in (0..).zip(steps) {
            let nth = |which: usize| model.keys().copied().nth(which % model.len().max(1)).unwrap_or(u64::MAX);
            match step {
                Step::Open(keys, at) => {
                    let (stream, at) = (stream(number, keys), Timestamp::from_seconds(at));
                    index.insert(number, stream.clone(), at);
                    model.insert(number, (stream, Some(at)));
                }
                Step::Close(which) => {
                    let number = nth(which);
                    prop_assert_eq!(index.remove(number), model.remove(&number).map(|(stream, _)| stream));
                }
                Step::Extend(which, at) => {
                    let (number, at) = (nth(which), Timestamp::from_seconds(at));
                    index.set_deadline(number, at);
                    model.entry(number).and_modify(|(_, deadline)| *deadline = deadline.and(Some(at)));
                }
                Step::Retire(which) => {
                    let number = nth(which);
                    index.retire(number);
                    model.entry(number).and_modify(|(_, deadline)| *deadline = None);
                }
            }
            for scope in scopes() {
                let mut found = Vec::new();
                index.select(&scope, &mut found);
                let expected: Vec<u64> =
                    model.iter().filter(|(_, (stream, _))| concerns(&scope, stream)).map(|(n, _)| *n).collect();
                prop_assert_eq!(numbers(&found), expected, "{:?}", scope);
            }
            let mut due = Vec::new();
            let now = Timestamp::from_seconds(25);
            index.due(now, &mut due);
            let expected: Vec<u64> = model.iter().filter(|(_, (_, at))| at.is_some_and(|at| at <= now)).map(|(n, _)| *n).collect();
            prop_assert_eq!(numbers(&due), expected);
            prop_assert_eq!(index.next_deadline(), model.values().filter_map(|(_, at)| *at).min());
            prop_assert_eq!(index.len(), model.len());
        }
        for number in model.keys() {
            index.remove(*number);
        }
        prop_assert!(index.is_empty() && index.deadlines.is_empty());
        let keys = [index.principals.0.len(), index.devices.0.len(), index.sessions.0.len(), index.apps.0.len()];
        prop_assert_eq!(keys, [0; 4], "nothing is left behind");
    }
}

fn numbers(streams: &[Arc<Stream>]) -> Vec<u64> {
    let mut numbers: Vec<u64> = streams.iter().map(|stream| stream.number).collect();
    numbers.sort_unstable();
    numbers
}
