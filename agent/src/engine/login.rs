//! Someone asked to sign in, and wants to know how it goes.

use super::driver::Driver;
use super::sign_in;
use postern_agent_core::Event;
use postern_protocol::local::{LoginEvent, LoginMethod, LoginRequest, State};
use postern_protocol::{Code, Problem, Timestamp};
use std::time::Duration;
use tokio::sync::mpsc;

/// A signed-in agent should be online within this; if not, whoever asked is told why and the agent goes on trying.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Who waits for the sign-in.
pub(super) struct Login {
    pub(super) steps: mpsc::Sender<LoginEvent>,
    /// When they are told that it takes too long.
    gives_up: Option<Timestamp>,
    /// Why the sign-in failed, if it did.
    problem: Option<Problem>,
}

impl Login {
    pub(super) fn gives_up(&self) -> Option<Timestamp> {
        self.gives_up
    }

    fn end(self, last: LoginEvent) {
        // Nobody need be listening.
        let _ = self.steps.try_send(last);
    }

    fn fail(self, problem: Problem) {
        self.end(LoginEvent::Failed { problem: Box::new(problem) });
    }
}

impl Driver {
    pub(super) fn log_in(&mut self, request: LoginRequest, steps: mpsc::Sender<LoginEvent>) {
        let login = Login { steps, gives_up: None, problem: None };
        if let Some(earlier) = self.login.take() {
            earlier.fail(Problem::new(Code::SignInCancelled).detail("another sign-in was begun"));
        }
        if let Err(problem) = self.check_same_relay(&request) {
            return login.fail(problem);
        }
        self.login = Some(login);
        if self.hurry_resume(&request) {
            return;
        }
        if request.renew && self.lives() {
            return self.prolong(request.method, request.app.as_ref());
        }
        if self.steps_up_by_hand(request.method) {
            return;
        }
        if !self.lives() {
            self.request = request;
        }
        self.handle(Event::SignIn { account: self.next_account() });
    }

    /// Whoever signs in does not want to after all.
    pub(super) fn cancel_login(&mut self) {
        let cancelled = Problem::new(Code::SignInCancelled);
        match self.machine.state() {
            // The keyring is asked on: the session there needs no sign-in.
            _ if self.resuming.is_some() => self.fail_login(cancelled),
            State::SigningIn => {
                self.note_login_problem(&cancelled);
                self.handle(Event::CancelSignIn);
            }
            _ => self.handle(Event::CancelSignIn),
        }
    }

    /// While a session lives, a sign-in at another relay would end it behind the user's back.
    fn check_same_relay(&self, request: &LoginRequest) -> Result<(), Problem> {
        let address = match &request.address {
            Some(_) => sign_in::address(&self.setup, request, None)?,
            None => return Ok(()),
        };
        match &self.held {
            Some(held) if self.lives() && held.relay.address != address => Err(Problem::new(Code::RequestInvalid)
                .detail(format!("this agent is signed in at {}", held.relay.address))
                .advice(None, Some("Run: postern logout. Or use another --state-dir for another relay.".into()))),
            _ => Ok(()),
        }
    }

    fn lives(&self) -> bool {
        matches!(self.machine.state(), State::Online | State::Offline | State::Connecting) || self.machine.is_lapsed()
    }

    pub(super) fn tell(&self, step: LoginEvent) {
        if let Some(login) = &self.login {
            let _ = login.steps.try_send(step);
        }
    }

    pub(super) fn note_login_problem(&mut self, problem: &Problem) {
        if let Some(login) = &mut self.login {
            login.problem = Some(problem.clone());
        }
    }

    /// Tells whoever waits once there is an end to tell of.
    pub(super) fn settle_login(&mut self) {
        let (state, now) = (self.machine.state(), self.now);
        let Some(login) = &mut self.login else { return };
        let over = match state {
            State::Online => !self.step_up.runs,
            State::SigningIn | State::Enrolling => false,
            State::Expired if self.machine.is_lapsed() => !self.step_up.runs,
            State::SignedOut | State::Expired | State::Revoked => self.resuming.is_none(),
            State::Connecting | State::Offline => *login.gives_up.get_or_insert(now.plus(CONNECT_LIMIT)) <= now,
        };
        if !over {
            return;
        }
        let Some(login) = self.login.take() else { return };
        if state == State::Online {
            let status = Box::new(self.status());
            return login.end(LoginEvent::Online { status });
        }
        let standing = self.machine.problem().cloned();
        let problem = login.problem.clone().or(standing).unwrap_or_else(|| Problem::new(Code::SignInCancelled));
        login.fail(problem);
    }

    /// Ends the wait of whoever asked to sign in, for a cause outside the sign-in itself.
    pub(super) fn fail_login(&mut self, problem: Problem) {
        if let Some(login) = self.login.take() {
            login.fail(problem);
        }
    }
}

/// What the agent asks of itself where nobody asks it.
pub(super) fn unasked() -> LoginRequest {
    LoginRequest {
        address: None,
        ca_pem: None,
        method: LoginMethod::ServiceAccount,
        allow_memory_only: false,
        renew: false,
        app: None,
    }
}
