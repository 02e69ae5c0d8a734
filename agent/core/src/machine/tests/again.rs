//! Signing in again while a session lives: because a policy asks for it, or because the provider refreshes no longer.

use super::stories::{is_exchange, is_listen, is_refresh, live_for};
use super::world::{HOUR, MINUTE, World, good_answer};
use crate::event::{Account, Answer, Effect, Ending, Event, Task, Tokens};
use postern_protocol::{Code, Problem, local};
use std::time::Duration;

fn is_lapse(task: &Task) -> bool {
    matches!(task, Task::Lapse { .. })
}

/// A session that waits for its user, the relay holding live streams.
fn lapsed() -> World {
    let mut world = World::online(Account::Person);
    while world.running(is_refresh).is_none() {
        world.tick();
        if world.running(is_refresh).is_none() {
            world.all_goes_well();
        }
    }
    world.refuse(world.running(is_refresh).unwrap(), Code::RefreshRefused);
    world.all_goes_well();
    assert_eq!((world.machine.state(), world.ended, world.carrying), (local::State::Expired, None, None));
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::RefreshRefused));
    assert!(world.machine.is_lapsed() && world.running(is_listen).is_some());
    world
}

#[test]
fn a_refused_refresh_asks_for_a_sign_in() {
    let mut world = World::online(Account::Person);
    while world.running(is_refresh).is_none() {
        world.tick();
        if world.running(is_refresh).is_none() {
            world.all_goes_well();
        }
    }
    world.refuse(world.running(is_refresh).unwrap(), Code::RefreshRefused);
    // The relay is told at once, and holds nothing.
    world.answer(world.running(is_lapse).unwrap(), Answer::Lapsed { held_for: None });
    assert_eq!(world.machine.state(), local::State::Expired);
    assert_eq!(world.ended, Some(Ending::Expired));
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::RefreshRefused));
    assert_eq!(world.machine.next_deadline(), None, "only the user can go on");
}

#[test]
fn a_held_session_goes_on_after_a_sign_in_over_the_same_link() {
    let mut world = lapsed();
    let link = world.links.clone();
    live_for(&mut world, MINUTE);
    assert_eq!(world.running(|task| !is_listen(task)), None, "nothing but the user helps");
    world.send(Event::StepUp { asked: false });
    assert_eq!(world.running(|task| matches!(task, Task::StepUp)), None, "no page opens by itself");
    world.send(Event::StepUp { asked: true });
    world.all_goes_well();
    assert_eq!(world.machine.state(), local::State::Online);
    assert!(!world.machine.is_lapsed() && link.contains(&world.carrying.unwrap()));
    assert_eq!(world.started_since(0, |task| matches!(task, Task::Enroll)), 1, "it is the same session");
    live_for(&mut world, HOUR);
    assert_eq!(world.machine.state(), local::State::Online);
}

#[test]
fn a_held_session_ends_when_nobody_signs_in_or_nothing_is_left_of_it() {
    let mut world = lapsed();
    live_for(&mut world, 9 * MINUTE);
    assert_eq!(world.ended, None);
    live_for(&mut world, 2 * MINUTE);
    assert_eq!(world.ended, Some(Ending::Expired));
    let mut world = lapsed();
    world.send(Event::Revoked { code: Code::SessionRevoked });
    assert_eq!(world.ended, Some(Ending::Expired), "the relay gave up waiting");
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::RefreshRefused));
    let mut world = lapsed();
    let problem = Box::new(Problem::new(Code::RelayUnreachable));
    world.send(Event::LinkClosed { link: *world.links.first().unwrap(), problem });
    assert_eq!(world.ended, Some(Ending::Expired));
    let mut world = lapsed();
    world.send(Event::Revoked { code: Code::PrincipalRevoked });
    assert_eq!(world.ended, Some(Ending::Revoked));
}

fn is_step_up(task: &Task) -> bool {
    matches!(task, Task::StepUp)
}

#[test]
fn a_step_up_brings_a_session_token_of_the_new_sign_in() {
    let mut world = World::online(Account::Person);
    let before = world.started.len();
    world.send(Event::StepUp { asked: false });
    world.send(Event::StepUp { asked: false });
    assert_eq!(world.started_since(before, is_step_up), 1, "one at a time");
    let step_up = world.running(is_step_up).unwrap();
    world.answer(step_up, good_answer(Task::StepUp));
    let exchange = world.running(is_exchange).expect("the relay is shown the new tokens at once");
    assert!(world.waiting);
    world.answer(exchange, good_answer(world.flights[&exchange].0));
    assert!(!world.waiting && world.effects.contains(&Effect::SteppedUp));
    let asks_for_apps = |task: &Task| matches!(task, Task::FetchApps { .. });
    assert_eq!(world.started_since(before, asks_for_apps), 1, "more may be open now");
    // What a fresh sign-in does not satisfy is refused for a while; the user may ask again.
    world.all_goes_well();
    let before = world.started.len();
    live_for(&mut world, Duration::from_secs(29));
    world.send(Event::StepUp { asked: false });
    assert_eq!(world.started_since(before, is_step_up), 0);
    assert!(matches!(world.effects.last(), Some(Effect::StepUpFailed { .. })));
    world.send(Event::StepUp { asked: true });
    assert_eq!(world.started_since(before, is_step_up), 1);
    // And who lost the page starts over.
    world.send(Event::StepUp { asked: true });
    assert_eq!(world.started_since(before, is_step_up), 2);
    world.refuse(world.running(is_step_up).unwrap(), Code::SignInCancelled);
    assert!(!world.waiting);
    assert_eq!(world.machine.state(), local::State::Online, "a step-up that fails takes nothing away");
    live_for(&mut world, Duration::from_secs(30));
    let before = world.started.len();
    world.send(Event::StepUp { asked: false });
    assert_eq!(world.started_since(before, is_step_up), 1, "later it may be asked for again");
}

#[test]
fn a_service_account_does_not_wait_for_a_person() {
    let mut world = World::online(Account::Service);
    world.send(Event::StepUp { asked: true });
    assert!(world.running(is_step_up).is_none() && !world.waiting);
    let Some(Effect::StepUpFailed { problem }) = world.effects.last() else { panic!("{:?}", world.effects) };
    assert!(problem.fix.as_ref().unwrap().contains("administrator"), "{problem:?}");
}

/// A proof that no refresh can replace, and that ages before the relay can be shown it, is the end of the wait.
#[test]
fn a_step_up_whose_proof_ages_unseen_has_an_end() {
    let mut world = World::online(Account::Person);
    world.send(Event::StepUp { asked: true });
    let tokens = Tokens { fresh_for: Duration::from_secs(10), renewable: false, rotated: false };
    world.answer(world.running(is_step_up).unwrap(), Answer::SteppedUp(tokens));
    world.refuse(world.running(is_exchange).unwrap(), Code::RelayUnreachable);
    assert!(world.waiting);
    world.now = world.now.plus(Duration::from_secs(11));
    world.send(Event::Tick);
    world.all_goes_well();
    assert!(!world.waiting);
    assert_eq!(world.machine.state(), local::State::Online, "what the session may do it still may");
}

/// Who gives up signing in again keeps the session, and no page opens by itself for a while.
#[test]
fn giving_up_a_further_sign_in_leaves_the_session_as_it_is() {
    let is_step_up = |task: &Task| matches!(task, Task::StepUp);
    for mut world in [World::online(Account::Person), lapsed()] {
        let state = world.machine.state();
        world.send(Event::StepUp { asked: true });
        assert!(world.running(is_step_up).is_some());
        world.send(Event::CancelSignIn);
        assert_eq!((world.running(is_step_up), world.machine.state(), world.ended), (None, state, None));
        let before = world.started.len();
        world.send(Event::StepUp { asked: false });
        assert_eq!(world.started_since(before, is_step_up), 0);
        world.send(Event::CancelSignIn);
        assert_eq!(world.machine.state(), state, "there is nothing to give up");
    }
}

/// A proof that the relay is being shown already is no sign-in that waits for anybody.
#[test]
fn a_further_sign_in_that_is_done_cannot_be_given_up() {
    let mut world = World::online(Account::Person);
    world.send(Event::StepUp { asked: true });
    let ticket = world.running(|task| matches!(task, Task::StepUp)).unwrap();
    world.answer(ticket, good_answer(Task::StepUp));
    world.send(Event::CancelSignIn);
    assert!(world.running(is_exchange).is_some());
}

/// Without a refresh token the session ends with the proof, unless the person signs in again.
#[test]
fn a_session_says_when_it_ends_if_only_its_user_can_go_on() {
    let mut world = World::online(Account::Person);
    assert_eq!(world.machine.ends(), None, "it renews itself");
    let once = |fresh_for| Answer::SteppedUp(Tokens { fresh_for, renewable: false, rotated: true });
    for _ in 0..2 {
        world.send(Event::StepUp { asked: true });
        world.answer(world.running(|task| matches!(task, Task::StepUp)).unwrap(), once(15 * MINUTE));
        world.all_goes_well();
        let ends = world.machine.ends().unwrap();
        assert_eq!(ends, world.now.plus(15 * MINUTE));
        live_for(&mut world, 10 * MINUTE);
        assert_eq!((world.machine.ends(), world.ended), (Some(ends), None));
    }
    live_for(&mut world, 10 * MINUTE);
    assert_eq!(world.ended, Some(Ending::Expired));
    assert_eq!(world.machine.ends(), None);
}

/// The relay wants a fresh sign-in before the session goes on: live streams are held as when the provider ends it, and a
/// sign-in that is fresh enough lets all of it go on.
#[test]
fn a_session_that_is_to_begin_afresh_waits_for_its_user() {
    let mut world = World::online(Account::Person);
    world.send(Event::Refused { code: Code::TokenExpired });
    while world.running(is_exchange).is_none() {
        world.tick();
    }
    world.refuse(world.running(is_exchange).unwrap(), Code::StepUpRequired);
    assert!(world.running(is_lapse).is_some(), "the relay is told while there is a token to tell it with");
    world.all_goes_well();
    assert_eq!((world.machine.state(), world.ended), (local::State::Expired, None));
    assert_eq!(world.machine.problem().map(|p| p.code), Some(Code::StepUpRequired));
    world.send(Event::StepUp { asked: true });
    world.all_goes_well();
    assert_eq!((world.machine.state(), world.ended), (local::State::Online, None));
}
