//! How the sign-in page gets in front of the person.

use super::opener;
use postern_protocol::Problem;
use url::Url;

/// Whether the agent opens the browser itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// It does.
    System,
    /// The person opens the address that is shown.
    Shown,
}

impl Browser {
    pub(super) async fn open(self, url: &Url) -> Result<(), Problem> {
        match self {
            Self::System => opener::open(url).await,
            Self::Shown => Ok(()),
        }
    }
}
