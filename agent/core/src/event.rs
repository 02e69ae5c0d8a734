//! What goes into the machine and what comes out of it.

use postern_protocol::{Code, Problem, Timestamp};
use std::time::Duration;

/// The time and the randomness of one event. The shell reads both; the machine only computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// 64 random bits.
    pub random: u64,
}

/// Names one running task. Never used twice by one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Who signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// A person, who must be there for a sign-in.
    Person,
    /// A service account, which can sign in by itself at any time.
    Service,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// At start: the secrets of a session were found.
    Resume {
        /// Whose.
        account: Account,
        /// The device certificate's.
        certificate: Validity,
    },
    /// At start: the last session was over already.
    Remember {
        /// Whose.
        account: Account,
        /// How it ended.
        ending: Ending,
        /// Why.
        problem: Box<Problem>,
    },
    /// Someone wants to sign in. Without effect while a session lives.
    SignIn {
        /// Who.
        account: Account,
    },
    /// Whoever signs in, or signs in again, does not want to after all. Without effect where nothing waits for a person.
    CancelSignIn,
    /// Someone wants to sign out.
    SignOut,
    /// A task came to its end.
    Answer {
        /// Which.
        ticket: Ticket,
        /// How.
        answer: Result<Answer, Box<Problem>>,
    },
    /// A link broke or was closed by the relay.
    LinkClosed {
        /// The task that dialled it.
        link: Ticket,
        /// Why.
        problem: Box<Problem>,
    },
    /// The relay refused a request of the data path.
    Refused {
        /// Why.
        code: Code,
    },
    /// Somebody waits for a fresher or stronger sign-in of the same user; answered by [`Effect::SteppedUp`],
    /// [`Effect::StepUpFailed`] or the session's end.
    StepUp {
        /// The user asks for it, rather than a request that was refused.
        asked: bool,
    },
    /// The relay says that the session, device or user is revoked.
    Revoked {
        /// Which of them.
        code: Code,
    },
    /// The relay says that the apps may have changed.
    AppsChanged,
    /// The relay is about to stop.
    Draining,
    /// The machine slept, the clock jumped or the network changed: nothing from before can be relied on.
    Woke,
    /// The time the machine asked for has come.
    Tick,
}

/// A task's good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The provider vouched for the user.
    SignedIn(Tokens),
    /// The provider vouched for the same user anew.
    SteppedUp(Tokens),
    /// The relay issued a certificate and a session.
    Enrolled(Validity),
    /// The secrets are where they outlive the process, or are meant to stay in memory.
    Saved,
    /// There is a link; its name is the ticket.
    Connected,
    /// The provider gave new tokens.
    Refreshed(Tokens),
    /// The relay gave a session token, bound to the certificate of the link it was asked over.
    Granted {
        /// For how long.
        lifetime: Duration,
    },
    /// The relay knows that the provider refuses. It holds live streams for this long, or ended the session.
    Lapsed {
        /// For how long.
        held_for: Option<Duration>,
    },
    /// The relay issued a new certificate.
    Renewed(Validity),
    /// The apps are known.
    AppsFetched,
    /// The posture now.
    PostureSeen {
        /// Is it another than the relay was told last?
        changed: bool,
    },
    /// The relay knows the posture.
    PostureReported,
}

/// What the machine has to know of the provider's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// For how long from now the relay takes the token.
    pub fresh_for: Duration,
    /// Can new tokens be had without the user?
    pub renewable: bool,
    /// Is there something new to save: a refresh token that replaces the one before?
    pub rotated: bool,
}

/// What the machine has to know of the device certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// How long it has been valid.
    pub age: Duration,
    /// How long it will be.
    pub remaining: Duration,
}

/// What the shell is to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin this; answer with the ticket when it ends.
    Do {
        /// Its name.
        ticket: Ticket,
        /// What.
        task: Task,
    },
    /// Stop that task: its answer is not wanted any more.
    Cancel {
        /// Its name.
        ticket: Ticket,
    },
    /// Send requests over this link from now on, with the session token last granted.
    Carry {
        /// The task that dialled it.
        link: Ticket,
    },
    /// Send no requests until the next `Carry`.
    Halt {
        /// What those who ask are told.
        problem: Box<Problem>,
    },
    /// Let go of this link: streams that live on it may end in peace.
    Release {
        /// The task that dialled it.
        link: Ticket,
    },
    /// The session token in use is that of the fresher or stronger sign-in: what waited for it goes on.
    SteppedUp,
    /// There will be no such sign-in now: what waited for it is refused.
    StepUpFailed {
        /// Why not.
        problem: Box<Problem>,
    },
    /// The session is over: close every link and forget what `ending` says.
    End {
        /// How it ended.
        ending: Ending,
        /// Why.
        problem: Box<Problem>,
    },
}

/// Something the shell does on its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Sign in at the provider.
    SignIn,
    /// Have the same user sign in at the provider again, for the session that lives.
    StepUp,
    /// Exchange the sign-in for a certificate and a session.
    Enroll,
    /// Put the secrets where they outlive the process.
    Save,
    /// Dial the relay with the newest certificate.
    Connect,
    /// Get new tokens from the provider.
    Refresh,
    /// Exchange the provider's token for a session token over this link.
    Exchange {
        /// The task that dialled it.
        link: Ticket,
    },
    /// Tell the relay that the provider renews the sign-in no longer.
    Lapse {
        /// The task that dialled the link to tell it over.
        link: Ticket,
    },
    /// Get a new certificate for the device key.
    RenewCertificate {
        /// The task that dialled the link to ask over.
        link: Ticket,
    },
    /// Get the list of apps.
    FetchApps {
        /// The task that dialled the link to ask over.
        link: Ticket,
    },
    /// Look at the device's posture.
    LookAtPosture,
    /// Tell the relay the posture as it is now.
    ReportPosture {
        /// The task that dialled the link to tell it over.
        link: Ticket,
    },
    /// Listen to the relay's events until the link ends.
    Listen {
        /// The task that dialled the link to listen on.
        link: Ticket,
    },
}

/// How a session ends, and so what is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The user signed out: tell the relay and the provider, wipe everything.
    SignedOut,
    /// Only a new sign-in helps: tell the relay unless it knows, wipe the tokens, keep the device key.
    Expired,
    /// It was withdrawn: wipe the tokens, keep the device key, say nothing to anyone.
    Revoked,
}
