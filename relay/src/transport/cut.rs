//! The string on which a stream hangs: whoever holds it can cut the stream, with the code of the cause, or hold it.

use postern_protocol::Code;
use std::future::poll_fn;
use std::task::Poll;
use tokio::sync::watch;

/// Ends one stream, or one connection, from outside. The carrier of the stream resets both directions with the
/// code's number.
#[derive(Debug)]
pub struct Cut {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Counts the uses of a stream that carries one request after another.
    uses: u64,
    code: Option<Code>,
    /// Frozen: whoever carries its bytes lets none pass.
    held: bool,
}

/// One use of a stream. A cut meant for it does not hit the next use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use(u64);

impl Cut {
    /// Not cut yet.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(State::default()) }
    }

    /// The next use of the stream begins.
    pub fn begin(&self) -> Use {
        let mut begun = 0;
        self.state.send_if_modified(|state| {
            state.uses += 1;
            state.held = false;
            begun = state.uses;
            false // nobody waits for this
        });
        Use(begun)
    }

    /// The use `of` has ended.
    pub fn end(&self, of: Use) {
        self.state.send_if_modified(|state| {
            state.uses += u64::from(state.uses == of.0);
            false
        });
    }

    /// Cuts the stream unless `of` has ended meanwhile. True if this call did it.
    pub fn cut(&self, of: Use, code: Code) -> bool {
        self.state.send_if_modified(|state| {
            let live = state.uses == of.0 && state.code.is_none();
            if live {
                state.code = Some(code);
            }
            live
        })
    }

    /// Cuts the stream unless `of` has ended meanwhile, but wakes nobody: whoever moves a byte of it finds out before.
    /// True if this call did it.
    pub fn mark(&self, of: Use, code: Code) -> bool {
        let mut done = false;
        self.state.send_if_modified(|state| {
            done = state.uses == of.0 && state.code.is_none();
            if done {
                state.code = Some(code);
            }
            false
        });
        done
    }

    /// Wakes whoever waits for the cut.
    pub fn wake(&self) {
        self.state.send_modify(|_| ());
    }

    /// Cuts the stream whatever it carries. The first code stays.
    pub fn cut_any(&self, code: Code) {
        self.state.send_if_modified(|state| {
            let first = state.code.is_none();
            state.code.get_or_insert(code);
            first
        });
    }

    /// Holds the stream, or lets it flow again, unless `of` has ended meanwhile. True if this call changed something.
    pub fn hold(&self, of: Use, held: bool) -> bool {
        self.state.send_if_modified(|state| {
            let changes = state.uses == of.0 && state.code.is_none() && state.held != held;
            state.held ^= changes;
            changes
        })
    }

    /// For whoever carries bytes that can be held.
    pub fn valve(&self) -> Valve {
        Valve(self.state.subscribe())
    }

    /// Why the stream was cut, if it was.
    pub fn code(&self) -> Option<Code> {
        self.state.borrow().code
    }

    /// Waits for the cut. Each time it is polled it looks, woken or not.
    pub async fn wait(&self) -> Code {
        let mut receiver = self.state.subscribe();
        let woken = async {
            while receiver.borrow_and_update().code.is_none() {
                if receiver.changed().await.is_err() {
                    // The sender is `self`, which lives.
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut woken = std::pin::pin!(woken);
        poll_fn(|cx| match self.code() {
            Some(code) => Poll::Ready(code),
            None => woken.as_mut().poll(cx).map(|()| self.code().unwrap_or(Code::Internal)),
        })
        .await
    }
}

/// Tells whether bytes may pass. Each direction has its own.
#[derive(Clone, Debug)]
pub struct Valve(watch::Receiver<State>);

impl Valve {
    /// Resolves at once while bytes may pass, else when they may again.
    pub async fn open(&mut self) {
        if !self.0.borrow_and_update().held {
            return;
        }
        if self.0.wait_for(|state| !state.held).await.is_err() {
            // The stream is gone, and whoever carries it with it.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when no more bytes may pass.
    pub async fn shut(&mut self) {
        if self.0.wait_for(|state| state.held).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Cut {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_of_an_earlier_use_is_void() {
        let cut = Cut::new();
        let first = cut.begin();
        let second = cut.begin();
        assert!(!cut.cut(first, Code::PolicyDenied));
        cut.end(first);
        assert_eq!(cut.code(), None);
        assert!(cut.cut(second, Code::SessionRevoked));
        assert!(!cut.cut(second, Code::PolicyDenied), "the first cause stays");
        assert_eq!(cut.wait().await, Code::SessionRevoked);

        let cut = Cut::new();
        let only = cut.begin();
        cut.end(only);
        assert!(!cut.cut(only, Code::PolicyDenied));
    }

    #[tokio::test]
    async fn what_is_held_flows_again_and_can_still_be_cut() {
        let cut = Cut::new();
        let earlier = cut.begin();
        let this_use = cut.begin();
        let mut valve = cut.valve();
        valve.open().await;
        assert!(!cut.hold(earlier, true), "an earlier use is over");
        assert!(cut.hold(this_use, true) && !cut.hold(this_use, true));
        valve.shut().await;
        let mut waiting = std::pin::pin!(valve.open());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(cut.hold(this_use, false));
        waiting.await;
        assert!(cut.hold(this_use, true) && cut.cut(this_use, Code::TokenExpired));
        assert!(!cut.hold(this_use, false), "what was cut stays cut");
    }

    #[tokio::test]
    async fn a_marked_stream_is_found_cut_at_the_next_look() {
        let cut = Cut::new();
        let this_use = cut.begin();
        let mut waiting = std::pin::pin!(cut.wait());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(cut.mark(this_use, Code::PolicyDenied) && !cut.mark(this_use, Code::SessionRevoked));
        assert_eq!(futures_util::poll!(waiting), Poll::Ready(Code::PolicyDenied));
    }

    #[tokio::test]
    async fn a_waiter_is_woken() {
        let cut = std::sync::Arc::new(Cut::new());
        let waiter = tokio::spawn({
            let cut = cut.clone();
            async move { cut.wait().await }
        });
        tokio::task::yield_now().await;
        cut.cut_any(Code::Draining);
        assert_eq!(waiter.await.unwrap(), Code::Draining);
    }
}
