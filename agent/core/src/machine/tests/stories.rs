//! One event after another, as they happen to people.

use super::world::{HOUR, MINUTE, World, good_answer};
use crate::event::{Account, Answer, Effect, Ending, Event, Task, Tokens, Validity};
use postern_protocol::{Code, Problem, local};
use std::time::Duration;

pub(super) fn is_refresh(task: &Task) -> bool {
    matches!(task, Task::Refresh)
}
pub(super) fn is_exchange(task: &Task) -> bool {
    matches!(task, Task::Exchange { .. })
}
fn is_connect(task: &Task) -> bool {
    matches!(task, Task::Connect)
}
fn is_save(task: &Task) -> bool {
    matches!(task, Task::Save)
}
fn is_renewal(task: &Task) -> bool {
    matches!(task, Task::RenewCertificate { .. })
}
fn is_look(task: &Task) -> bool {
    matches!(task, Task::LookAtPosture)
}
fn is_report(task: &Task) -> bool {
    matches!(task, Task::ReportPosture { .. })
}
pub(super) fn is_listen(task: &Task) -> bool {
    matches!(task, Task::Listen { .. })
}
fn any(_: &Task) -> bool {
    true
}

/// Runs for `span`, answering everything well.
pub(super) fn live_for(world: &mut World, span: Duration) {
    let end = world.now.plus(span);
    while world.machine.next_deadline().is_some_and(|at| at <= end) {
        world.tick();
        world.all_goes_well();
    }
    world.now = end;
}

#[test]
fn a_day_stays_online_with_few_renewals() {
    let mut world = World::online(Account::Person);
    let before = world.started.len();
    let end = world.now.plus(24 * HOUR);
    while world.now < end {
        world.tick();
        world.all_goes_well();
        assert_eq!(world.machine.state(), local::State::Online);
    }
    // Tokens of 15 and 5 minutes, a certificate of a day, each renewed between 17/30 and 20/30 of its life.
    let count = |wanted| world.started_since(before, wanted);
    assert!((144..=171).contains(&count(is_refresh)), "{}", count(is_refresh));
    assert!((432..=512).contains(&count(is_exchange)), "{}", count(is_exchange));
    assert_eq!((count(is_renewal), count(is_connect)), (1, 1));
    let posture = |task: &Task| matches!(task, Task::LookAtPosture | Task::ReportPosture { .. });
    let rest = world.started.iter().skip(before).filter(|(_, task)| !posture(task)).count();
    assert!(rest < 1_000, "{rest}");
    // Looked at every 20 seconds, told every 40 and at each exchange.
    let (looks, reports) = (count(is_look), count(is_report));
    assert!((3_600..=4_400).contains(&looks) && (1_600..=2_200).contains(&reports), "{looks} {reports}");
}

#[test]
fn a_restart_resumes_without_a_sign_in() {
    let mut world = World::new();
    let certificate = Validity { age: HOUR, remaining: 10 * HOUR };
    world.send(Event::Resume { account: Account::Person, certificate });
    assert_eq!(world.machine.state(), local::State::Connecting);
    assert!(world.running(is_refresh).is_some() && world.running(is_connect).is_some());
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
    assert_eq!(world.started_since(0, |t| matches!(t, Task::SignIn | Task::Enroll)), 0);
}

#[test]
fn a_rotated_refresh_token_is_saved_before_the_next_refresh() {
    let mut world = World::online(Account::Person);
    while world.running(is_refresh).is_none() {
        world.tick();
        if world.running(is_refresh).is_none() {
            world.all_goes_well();
        }
    }
    let refresh = world.running(is_refresh).unwrap();
    world.answer(refresh, good_answer(Task::Refresh));
    let save = world.running(is_save).expect("the new refresh token is saved at once");
    world.refuse(save, Code::KeyringLocked);
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::KeyringLocked));
    assert_eq!(world.machine.state(), local::State::Online, "a locked keyring does not end the session");
    // However long the keyring stays locked, the session goes on from memory: what is stored is spent anyway.
    let before = world.started.len();
    let end = world.now.plus(HOUR);
    while world.now < end {
        world.tick();
        let running: Vec<_> = world.flights.iter().map(|(ticket, (task, _))| (*ticket, *task)).collect();
        for (ticket, task) in running {
            match task {
                Task::Save => world.refuse(ticket, Code::KeyringLocked),
                Task::Listen { .. } => {}
                _ if world.flights.contains_key(&ticket) => world.answer(ticket, good_answer(task)),
                _ => {}
            }
        }
        assert_eq!(world.machine.state(), local::State::Online);
    }
    assert!(world.started_since(before, is_refresh) >= 5);
    assert!(world.started_since(before, is_save) <= 30, "nobody is asked to unlock it every minute");
    world.send(Event::Woke);
    world.all_goes_well();
    assert_eq!(world.machine.problem(), None);
}

#[test]
fn nobody_on_the_way_can_end_a_session_by_refusing_a_connection() {
    for code in [Code::DeviceRevoked, Code::CertificateInvalid, Code::VersionUnsupported, Code::RelayUntrusted] {
        let mut world = World::online(Account::Person);
        world.now = world.now.plus(2 * MINUTE);
        let lost = Box::new(Problem::new(Code::RelayUnreachable));
        world.send(Event::LinkClosed { link: world.carrying.unwrap(), problem: lost });
        world.refuse(world.running(is_connect).unwrap(), code);
        assert_eq!(world.machine.state(), local::State::Offline);
        let wait = world.machine.next_deadline().unwrap().since(world.now);
        assert!(wait <= MINUTE, "{code}: {wait:?}");
    }
}

#[test]
fn a_session_token_cut_short_by_an_old_proof_is_no_storm() {
    // A relay that takes the provider's token for twenty seconds, and ends its own tokens with it.
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    let (mut issued, before) = (world.now, world.started.len());
    let end = world.now.plus(10 * MINUTE);
    while world.now < end {
        while let Some((&ticket, &(task, _))) =
            world.flights.iter().find(|(_, (t, _))| !matches!(t, Task::Listen { .. }))
        {
            let tokens = Tokens { fresh_for: Duration::from_secs(20), renewable: true, rotated: true };
            let left = Duration::from_secs(20).saturating_sub(world.now.since(issued));
            let answer = match task {
                Task::SignIn => Answer::SignedIn(tokens),
                Task::Refresh => Answer::Refreshed(tokens),
                Task::Exchange { .. } => Answer::Granted { lifetime: left },
                _ => good_answer(task),
            };
            if matches!(task, Task::SignIn | Task::Refresh) {
                issued = world.now;
            }
            world.answer(ticket, answer);
        }
        assert_eq!(world.machine.state(), local::State::Online);
        world.tick();
    }
    let exchanges = world.started_since(before, is_exchange);
    assert!((40..=80).contains(&exchanges), "{exchanges} in ten minutes");
}

#[test]
fn a_new_certificate_gets_a_new_link_before_the_old_one_goes() {
    let mut world = World::online(Account::Person);
    let old = world.carrying.unwrap();
    live_for(&mut world, 17 * HOUR);
    let new = world.carrying.unwrap();
    assert_ne!(old, new);
    let renewed = world.effects.iter().position(|e| *e == Effect::Carry { link: new }).unwrap();
    let released = world.effects.iter().position(|e| *e == Effect::Release { link: old }).unwrap();
    assert!(renewed < released, "make before break");
    let halts = world.effects.iter().skip(renewed).filter(|e| matches!(e, Effect::Halt { .. })).count();
    assert_eq!(halts, 0, "no request was refused meanwhile");
}

#[test]
fn coming_back_renews_a_certificate_that_the_next_absence_might_outlast() {
    for (age, renewals) in [(2 * HOUR, 0), (9 * HOUR, 1)] {
        let mut world = World::new();
        let certificate = Validity { age, remaining: 24 * HOUR - age };
        world.send(Event::Resume { account: Account::Person, certificate });
        world.all_goes_well();
        assert_eq!(world.started_since(0, is_renewal), renewals);
    }
}

#[test]
fn losing_a_good_link_redials_at_once_and_a_bad_one_after_a_wait() {
    let mut world = World::online(Account::Person);
    world.now = world.now.plus(2 * MINUTE);
    let problem = Box::new(Problem::new(Code::RelayUnreachable));
    world.send(Event::LinkClosed { link: world.carrying.unwrap(), problem: problem.clone() });
    assert_eq!(world.machine.state(), local::State::Offline);
    assert!(world.running(is_connect).is_some(), "a link that was good is redialled at once");
    world.all_goes_well();
    world.send(Event::LinkClosed { link: world.carrying.unwrap(), problem });
    assert!(world.running(is_connect).is_none(), "one that broke soon after is not");
    world.tick();
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
}

#[test]
fn waking_up_dials_anew_at_once_without_dropping_what_may_still_work() {
    let mut world = World::online(Account::Person);
    let old = world.carrying;
    world.now = world.now.plus(Duration::from_secs(100));
    world.send(Event::Woke);
    assert!(world.running(is_connect).is_some());
    assert_eq!(world.carrying, old);
    // Asleep for longer than the session token lived: nothing travels with it any more.
    let mut world = World::online(Account::Person);
    world.now = world.now.plus(8 * HOUR);
    world.send(Event::Woke);
    assert_eq!(world.carrying, None);
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
}

/// What becomes of live streams is told also to a session whose token has ended.
#[test]
fn listening_goes_on_while_there_is_no_good_token() {
    let mut world = World::online(Account::Person);
    let link = world.carrying.unwrap();
    let listening = world.running(is_listen).unwrap();
    while world.carrying.is_some() {
        world.tick();
        if let Some(ticket) = world.running(|task| is_refresh(task) || is_exchange(task)) {
            world.refuse(ticket, Code::ProviderUnreachable);
        } else {
            world.all_goes_well();
        }
    }
    assert_eq!(world.running(is_listen), Some(listening));
    world.send(Event::Woke);
    world.all_goes_well();
    // Over another connection, it is begun anew there.
    assert_eq!(world.machine.state(), local::State::Online);
    assert_ne!(world.carrying, Some(link));
    assert!(world.running(is_listen).is_some_and(|now| now != listening));
    let lost = Box::new(Problem::new(Code::RelayUnreachable));
    world.send(Event::LinkClosed { link: world.carrying.unwrap(), problem: lost });
    assert_eq!(world.running(is_listen), None, "it ends with the connection");
}

#[test]
fn an_expired_service_account_signs_in_by_itself_but_not_after_a_revocation() {
    let mut world = World::online(Account::Service);
    world.send(Event::Refused { code: Code::SessionUnknown });
    assert_eq!(world.machine.state(), local::State::Expired);
    world.tick();
    assert_eq!(world.machine.state(), local::State::SigningIn);
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
    world.send(Event::Revoked { code: Code::PrincipalRevoked });
    assert_eq!(world.machine.state(), local::State::Revoked);
    assert_eq!(world.machine.next_deadline(), None);
}

#[test]
fn a_service_account_whose_sign_in_fails_tries_again() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Service });
    world.refuse(world.running(any).unwrap(), Code::ProviderUnreachable);
    assert_eq!(world.machine.state(), local::State::SignedOut);
    world.tick();
    world.refuse(world.running(any).unwrap(), Code::SignInFailed);
    let wait = world.machine.next_deadline().unwrap().since(world.now);
    assert!(wait >= 10 * MINUTE, "refused credentials are not tried often");
    world.tick();
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
}

#[test]
fn without_a_refresh_token_the_session_lasts_as_long_as_its_tokens() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    let sign_in = world.running(any).unwrap();
    let tokens = Tokens { fresh_for: 15 * MINUTE, renewable: false, rotated: true };
    world.answer(sign_in, Answer::SignedIn(tokens));
    let began = world.now;
    while world.machine.state() != local::State::Expired {
        world.all_goes_well();
        world.tick();
    }
    assert_eq!(world.started_since(0, is_refresh), 0);
    let lasted = world.now.since(began);
    assert!((14 * MINUTE..20 * MINUTE).contains(&lasted), "{lasted:?}");
}

#[test]
fn the_data_path_can_ask_for_a_renewal_but_not_for_a_storm_of_them() {
    let mut world = World::online(Account::Person);
    world.now = world.now.plus(Duration::from_secs(30));
    let before = world.started.len();
    world.send(Event::Refused { code: Code::TokenInvalid });
    assert_eq!(world.started_since(before, is_exchange), 1);
    world.all_goes_well();
    for _ in 0..100 {
        world.send(Event::Refused { code: Code::TokenInvalid });
        world.all_goes_well();
    }
    assert_eq!(world.started_since(before, is_exchange), 1, "the token is new: one a second is enough");
    world.send(Event::Refused { code: Code::PolicyDenied });
    assert_eq!(world.machine.state(), local::State::Online);
}

#[test]
fn a_sign_in_that_fails_leaves_the_state_before_with_the_newer_reason() {
    let mut world = World::online(Account::Person);
    world.send(Event::Refused { code: Code::SessionUnknown });
    world.send(Event::SignIn { account: Account::Person });
    assert_eq!(world.machine.state(), local::State::SigningIn);
    world.refuse(world.running(any).unwrap(), Code::SignInCancelled);
    assert_eq!(world.machine.state(), local::State::Expired);
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::SignInCancelled));
}

#[test]
fn a_second_sign_in_replaces_the_first() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    let first = world.running(any).unwrap();
    world.send(Event::SignIn { account: Account::Person });
    assert!(!world.flights.contains_key(&first));
    world.answer(first, good_answer(Task::SignIn));
    assert_eq!(world.machine.state(), local::State::SigningIn, "the first one's answer comes too late");
}

#[test]
fn a_relay_that_is_away_for_a_moment_does_not_cost_the_sign_in() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    world.answer(world.running(any).unwrap(), good_answer(Task::SignIn));
    assert_eq!(world.machine.state(), local::State::Enrolling);
    world.refuse(world.running(any).unwrap(), Code::RelayUnreachable);
    assert_eq!(world.machine.state(), local::State::Enrolling);
    world.tick();
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
    // But a refusal is final: the token enrols one key once.
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    world.answer(world.running(any).unwrap(), good_answer(Task::SignIn));
    world.refuse(world.running(any).unwrap(), Code::DeviceOwned);
    assert_eq!(world.machine.state(), local::State::SignedOut);
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::DeviceOwned));
}

#[test]
fn a_sign_in_nobody_finishes_ends() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    world.tick();
    assert_eq!(world.machine.state(), local::State::SignedOut);
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::SignInTimeout));
}

#[test]
fn a_draining_relay_is_left_for_a_new_link() {
    let mut world = World::online(Account::Person);
    let old = world.carrying.unwrap();
    world.send(Event::Draining);
    let dial = world.running(is_connect).expect("dials again while the old link still carries");
    world.refuse(dial, Code::Draining);
    assert_eq!(world.machine.state(), local::State::Online);
    world.tick();
    world.all_goes_well();
    assert_ne!(world.carrying.unwrap(), old);
}

/// Who gives up signing in is where they were, and the page they left open leads nowhere.
#[test]
fn giving_up_a_sign_in_leads_back_to_where_it_began() {
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Person });
    let ticket = world.running(any).unwrap();
    world.send(Event::CancelSignIn);
    assert_eq!((world.machine.state(), world.running(any)), (local::State::SignedOut, None));
    assert_eq!((world.machine.problem(), world.machine.next_deadline()), (None, None));
    world.answer(ticket, good_answer(Task::SignIn));
    assert_eq!(world.machine.state(), local::State::SignedOut);
    // Of a revocation nothing is forgotten.
    let mut world = World::online(Account::Person);
    world.send(Event::Revoked { code: Code::DeviceRevoked });
    world.send(Event::SignIn { account: Account::Person });
    world.send(Event::CancelSignIn);
    assert_eq!(world.machine.state(), local::State::Revoked);
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::DeviceRevoked));
    // Of a service account that was due meanwhile neither.
    let mut world = World::new();
    let problem = Box::new(Problem::new(Code::SessionUnknown));
    world.send(Event::Remember { account: Account::Service, ending: Ending::Expired, problem });
    world.send(Event::SignIn { account: Account::Person });
    world.now = world.now.plus(MINUTE);
    world.send(Event::CancelSignIn);
    assert!(world.machine.next_deadline().is_some_and(|at| at > world.now));
    world.tick();
    assert_eq!(world.machine.state(), local::State::SigningIn);
    // A service account waits for nobody.
    let mut world = World::new();
    world.send(Event::SignIn { account: Account::Service });
    world.send(Event::CancelSignIn);
    assert_eq!(world.machine.state(), local::State::SigningIn);
}
