//! One call of the machine: its moment, its randomness and the effects it gathers.

use crate::event::{Effect, Moment, Task, Ticket};
use postern_protocol::{Problem, Timestamp};

/// What the states write to while they handle one event.
pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    dice: u64,
    tickets: &'a mut u64,
    pub(crate) effects: Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(moment: Moment, tickets: &'a mut u64) -> Self {
        Self { now: moment.now, dice: moment.random, tickets, effects: Vec::new() }
    }

    /// 64 bits that follow from the moment's; each draw differs (SplitMix64).
    pub(crate) fn random(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Begins `task`.
    pub(crate) fn start(&mut self, task: Task) -> Ticket {
        *self.tickets += 1;
        let ticket = Ticket(*self.tickets);
        self.effects.push(Effect::Do { ticket, task });
        ticket
    }

    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.effects.push(Effect::Cancel { ticket });
    }

    pub(crate) fn halt(&mut self, problem: Problem) {
        self.effects.push(Effect::Halt { problem: Box::new(problem) });
    }
}
