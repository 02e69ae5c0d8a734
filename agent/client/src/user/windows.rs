//! Windows knows users by security identifier. A process has that of whoever started it.

use std::fmt;
use std::str::FromStr;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// A user of this machine, by security identifier (`S-1-5-21-...`). One whom the system does not tell is nobody's equal,
/// not even its own.
#[derive(Clone, Debug)]
pub struct User(Option<String>);

impl User {
    /// The user this program acts for.
    pub fn own() -> Self {
        Self::of_process(std::process::id())
    }

    /// The user that a process acts for. The system tells it of one's own processes; of others' it need not.
    pub fn of_process(id: u32) -> Self {
        Held::open(id).user()
    }

    /// The identifier, if it is known.
    pub fn sid(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// A process that is held open: while it is, its number goes to no other.
pub struct Held {
    system: Option<System>,
    id: Pid,
}

impl Held {
    /// Opens it, if it is there and may be opened.
    pub fn open(id: u32) -> Self {
        let id = Pid::from_u32(id);
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            let user = ProcessRefreshKind::nothing().with_user(UpdateKind::Always);
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, user);
        }
        Self { system, id }
    }

    /// Whom it acts for.
    pub fn user(&self) -> User {
        let process = self.system.as_ref().and_then(|system| system.process(self.id));
        User(process.and_then(|process| process.user_id()).map(|sid| sid.to_string()))
    }
}

impl FromStr for User {
    type Err = std::convert::Infallible;

    fn from_str(sid: &str) -> Result<Self, Self::Err> {
        Ok(Self(Some(sid.to_owned())))
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if one == other)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sid().unwrap_or("unknown"))
    }
}
