//! `postern connect APP`: an app's bytes on standard input and output.

use postern_client::{AppConnection, Client};
use postern_protocol::{AppName, Code, Problem};
use std::io;
use tokio::io::{AsyncWriteExt as _, copy, split, stdin, stdout};

/// Ends when the app has sent its last byte. The end of standard input only ends our direction.
pub(super) async fn run(client: &Client, app: &AppName) -> Result<(), Problem> {
    let AppConnection { bytes, id } = client.connect(app).await?;
    let (mut from_app, mut to_app) = split(bytes);
    let upwards = async {
        let copied = copy(&mut stdin(), &mut to_app).await;
        // The app may have hung up already, which the other direction tells.
        let _ = to_app.shutdown().await;
        match copied {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => error,
            _ => std::future::pending().await,
        }
    };
    let downwards = async {
        let mut out = stdout();
        copy(&mut from_app, &mut out).await?;
        out.flush().await
    };
    let result = tokio::select! {
        result = downwards => result,
        error = upwards => Err(error),
    };
    if let Some(cause) = client.cause_of_end(&id).await {
        return Err(cause);
    }
    match result {
        Ok(()) => Ok(()),
        // Whoever started us has gone: nothing is left to do, and nobody to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Problem::new(Code::Internal).detail(format!("standard input or output failed: {error}"))),
    }
}
