//! What holds for every order of events. The promises themselves are the assertions in `world`.

use super::world::World;
use crate::event::{Account, Answer, Ending, Event, Moment, Task, Tokens, Validity};
use crate::machine::Machine;
use postern_protocol::{Code, Problem, Timestamp, local};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    /// Answers the nth running task well, with these numbers in the answer.
    Good(usize, u64, bool, bool),
    /// Fails the nth running task.
    Bad(usize, Code),
    /// Gives the nth running task an answer that belongs to another.
    Nonsense(usize),
    /// Answers a task that was answered or cancelled long ago.
    Late(u64),
    Tick,
    Pass(u64),
    ClockBack(u64),
    LinkClosed(usize, Code),
    Refused(Code),
    Revoked(Code),
    Plain(Event),
}

fn code() -> impl Strategy<Value = Code> {
    prop::sample::select(Code::ALL)
}

/// Mostly the seconds and minutes of real tokens, now and then an absurd life.
fn life() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 10_000u64..3_600_000, 1 => 0u64..10_000, 1 => Just(u64::MAX), 1 => 3_600_000u64..200_000_000]
}

fn step() -> impl Strategy<Value = Step> {
    let plain = prop::sample::select(vec![
        Event::AppsChanged,
        Event::StepUp { asked: false },
        Event::StepUp { asked: false },
        Event::StepUp { asked: true },
        Event::CancelSignIn,
        Event::Draining,
        Event::Woke,
        Event::SignIn { account: Account::Person },
        Event::SignIn { account: Account::Service },
        Event::Resume {
            account: Account::Person,
            certificate: Validity { age: Duration::from_secs(9), remaining: Duration::from_secs(3600) },
        },
        Event::Remember {
            account: Account::Service,
            ending: Ending::Expired,
            problem: Box::new(Problem::new(Code::SessionUnknown)),
        },
        Event::SignOut,
    ]);
    let revocation = prop::sample::select(vec![Code::SessionRevoked, Code::DeviceRevoked, Code::PrincipalRevoked]);
    prop_oneof![
        12 => (any::<usize>(), life(), any::<bool>(), any::<bool>()).prop_map(|(n, l, a, b)| Step::Good(n, l, a, b)),
        3 => (any::<usize>(), code()).prop_map(|(n, c)| Step::Bad(n, c)),
        1 => any::<usize>().prop_map(Step::Nonsense),
        1 => (0u64..200).prop_map(Step::Late),
        8 => Just(Step::Tick),
        2 => (0u64..3_600_000).prop_map(Step::Pass),
        1 => (0u64..7_200_000).prop_map(Step::ClockBack),
        2 => (any::<usize>(), code()).prop_map(|(n, c)| Step::LinkClosed(n, c)),
        1 => code().prop_map(Step::Refused),
        1 => revocation.prop_map(Step::Revoked),
        3 => plain.prop_map(Step::Plain),
    ]
}

fn nth<T: Copy>(n: usize, mut items: impl ExactSizeIterator<Item = T>) -> Option<T> {
    let count = items.len();
    (count > 0).then(|| items.nth(n % count)).flatten()
}

fn apply(world: &mut World, step: Step) {
    match step {
        Step::Good(n, millis, renewable, rotated) => {
            let Some((ticket, task)) = nth(n, world.flights.iter().map(|(ticket, (task, _))| (*ticket, *task))) else {
                return;
            };
            let span = Duration::from_millis(millis);
            let tokens = Tokens { fresh_for: span, renewable, rotated };
            let validity = Validity { age: span / 7, remaining: span };
            world.answer(
                ticket,
                match task {
                    Task::SignIn => Answer::SignedIn(tokens),
                    Task::Refresh => Answer::Refreshed(tokens),
                    Task::StepUp => Answer::SteppedUp(tokens),
                    Task::Enroll => Answer::Enrolled(validity),
                    Task::RenewCertificate { .. } => Answer::Renewed(validity),
                    Task::Exchange { .. } => Answer::Granted { lifetime: span },
                    Task::Lapse { .. } => Answer::Lapsed { held_for: renewable.then_some(span) },
                    Task::Save => Answer::Saved,
                    Task::Connect => Answer::Connected,
                    Task::LookAtPosture => Answer::PostureSeen { changed: renewable },
                    Task::ReportPosture { .. } => Answer::PostureReported,
                    Task::FetchApps { .. } | Task::Listen { .. } => Answer::AppsFetched,
                },
            );
        }
        Step::Bad(n, code) => {
            if let Some(ticket) = nth(n, world.flights.keys().copied()) {
                world.refuse(ticket, code);
            }
        }
        Step::Nonsense(n) => {
            if let Some((ticket, task)) = nth(n, world.flights.iter().map(|(ticket, (task, _))| (*ticket, *task))) {
                let other = if matches!(task, Task::Save) { Answer::Connected } else { Answer::Saved };
                world.answer(ticket, other);
            }
        }
        Step::Late(number) => {
            let ticket = crate::Ticket(number);
            if !world.flights.contains_key(&ticket) {
                world.answer(ticket, Answer::Saved);
            }
        }
        Step::Tick => world.tick(),
        Step::Pass(millis) => {
            world.now = world.now.plus(Duration::from_millis(millis));
            world.send(Event::Tick);
        }
        Step::ClockBack(millis) => {
            // The machine goes on from the latest time it knows, and so does what the world expects of it.
            let now = world.now;
            world.log.push((Event::Tick, Moment { now: now.minus(Duration::from_millis(millis)), random: 0 }));
            let (event, moment) = world.log.last().cloned().unwrap();
            assert!(world.machine.handle(event, moment).is_empty());
        }
        Step::LinkClosed(n, code) => {
            if let Some(link) = nth(n, world.links.iter().copied()) {
                world.send(Event::LinkClosed { link, problem: Box::new(Problem::new(code)) });
            }
        }
        Step::Refused(code) => world.send(Event::Refused { code }),
        Step::Revoked(code) => world.send(Event::Revoked { code }),
        Step::Plain(event) => {
            if let Event::SignIn { account } | Event::Resume { account, .. } | Event::Remember { account, .. } = &event
            {
                world.note_account(*account);
            }
            world.send(event);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// No two tasks of a kind (so no refresh token used twice), no token used past its end, nothing but a sign-in after
    /// a revocation, no state without a way on, deadlines always ahead.
    #[test]
    fn promises_hold_in_every_order_of_events(online in any::<bool>(), steps in prop::collection::vec(step(), 1..150)) {
        let mut world = if online { World::online(Account::Person) } else { World::new() };
        for step in steps {
            apply(&mut world, step);
        }
    }

    #[test]
    fn the_same_events_give_the_same_effects(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::online(Account::Service);
        for step in steps {
            apply(&mut world, step);
        }
        let mut again = Machine::new();
        let effects: Vec<_> = world.log.iter().flat_map(|(event, moment)| again.handle(event.clone(), *moment)).collect();
        prop_assert_eq!(effects, world.effects);
        prop_assert_eq!(again.next_deadline(), world.machine.next_deadline());
    }

    /// However badly every answer comes, and at once, the machine soon waits instead of trying.
    #[test]
    fn no_answer_sets_off_a_storm(steps in prop::collection::vec(step(), 400..401)) {
        let mut world = World::online(Account::Service);
        let before = world.started.len();
        for step in steps {
            // Only answers, all at one moment.
            if matches!(step, Step::Good(..) | Step::Bad(..) | Step::Nonsense(..) | Step::LinkClosed(..) | Step::Refused(..)) {
                apply(&mut world, step);
            }
        }
        prop_assert!(world.started.len() - before < 24, "{:?}", world.started);
    }

    /// From wherever it got to, a session that is not over comes online once all goes well.
    #[test]
    fn no_state_is_a_dead_end(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::online(Account::Person);
        for step in steps {
            apply(&mut world, step);
        }
        for _ in 0..60 {
            if world.machine.next_deadline().is_none() {
                break;
            }
            world.all_goes_well();
            if world.machine.state() == local::State::Online {
                return Ok(());
            }
            world.tick();
        }
        // What rests instead comes online by a sign-in.
        prop_assert!(world.machine.next_deadline().is_none(), "{:?} has not come online", world.machine.state());
        world.send(Event::SignIn { account: Account::Person });
        world.all_goes_well();
        prop_assert_eq!(world.machine.state(), local::State::Online);
    }

    /// From wherever it got to: while all goes well the relay's knowledge of the posture is never older than a minute,
    /// and a change is told at once.
    #[test]
    fn the_relay_knows_the_posture_of_the_last_minute(
        steps in prop::collection::vec(step(), 1..60),
        changes in prop::collection::vec(any::<bool>(), 120),
    ) {
        let mut world = World::online(Account::Person);
        for step in steps {
            apply(&mut world, step);
        }
        // Refusals of before are forgotten: nothing waits for them to be mended.
        world.send(Event::Woke);
        world.all_goes_well();
        for change in changes {
            if world.machine.state() != local::State::Online {
                break;
            }
            let look = world.running(|task| matches!(task, Task::LookAtPosture));
            if let (Some(look), true) = (look, change) {
                let reports = world.running(|task| matches!(task, Task::ReportPosture { .. })).is_some();
                world.answer(look, Answer::PostureSeen { changed: true });
                let told = world.running(|task| matches!(task, Task::ReportPosture { .. })).is_some();
                prop_assert!(told || reports, "a change is not told");
            }
            world.all_goes_well();
            prop_assert!(world.machine.state() != local::State::Online || world.posture_age() <= Duration::from_secs(60), "{:?}", world.posture_age());
            world.tick();
        }
    }

    /// From wherever it got to: whoever waits for a step-up hears of an end within its limit, whatever the tasks do.
    #[test]
    fn nobody_waits_for_a_step_up_for_ever(
        steps in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 0..40),
    ) {
        let mut world = World::online(Account::Person);
        for step in steps {
            apply(&mut world, step);
        }
        world.send(Event::StepUp { asked: true });
        for step in after {
            apply(&mut world, step);
        }
        let end = world.now.plus(Duration::from_secs(11 * 60));
        while world.waiting && world.now < end && world.running(|task| matches!(task, Task::StepUp)).is_some() {
            world.tick();
        }
        prop_assert!(world.running(|task| matches!(task, Task::StepUp)).is_none() || world.now <= end);
        world.send(Event::Woke);
        world.all_goes_well();
        prop_assert!(!world.waiting || world.machine.state() != local::State::Online);
    }

    #[test]
    fn signing_out_works_from_everywhere(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            apply(&mut world, step);
        }
        world.send(Event::SignOut);
        prop_assert_eq!(world.machine.state(), local::State::SignedOut);
        prop_assert_eq!(world.ended, Some(Ending::SignedOut));
        prop_assert_eq!(world.machine.next_deadline(), None::<Timestamp>);
    }
}
