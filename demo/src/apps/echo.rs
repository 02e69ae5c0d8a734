//! A TCP app that sends back what it gets.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const MOST: usize = 256;
const IDLE: Duration = Duration::from_secs(600);

pub(crate) async fn serve(listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(async move {
                // The person at the other end went away; there is nobody to tell.
                let _ = echo(stream).await;
                drop(place);
            })),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::time::timeout(IDLE, stream.read(&mut buffer)).await??;
        match buffer.get(..count) {
            Some([]) | None => return stream.shutdown().await,
            Some(bytes) => stream.write_all(bytes).await?,
        }
    }
}
