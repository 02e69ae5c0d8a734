//! A small load generator: a fixed number of connections for a fixed time.

use crate::failure::{Because as _, Failure, check, within};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where requests go and what they call it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
}

/// What a run measured.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// A request or stream that takes longer than this is a failure.
const LONGEST: Duration = Duration::from_secs(10);

/// Requests on `connections` kept open, one at a time on each, for `time`.
pub(crate) async fn requests(target: &Target, connections: usize, time: Duration) -> Result<Figures, Failure> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let target = target.clone();
        tasks.spawn(async move { one_connection(&target, began + time).await });
    }
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times.because("a connection of the load generator")??);
    }
    figures(all, began.elapsed())
}

async fn one_connection(target: &Target, until: Instant) -> Result<Vec<Duration>, Failure> {
    let stream = TcpStream::connect(target.address).await.because(target.address)?;
    stream.set_nodelay(true).because(target.address)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.because(target.address)?;
    let driver = tokio::spawn(connection);
    let mut times = Vec::new();
    while Instant::now() < until {
        let request = Request::get("/").header(header::HOST, &target.host).body(Empty::<Bytes>::new());
        let request = request.because("a request")?;
        let began = Instant::now();
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let (status, body) = within(LONGEST, "a request", exchange).await?.because(&target.host)?;
        times.push(began.elapsed());
        check(status.is_success(), || {
            format!("{} answered {status}: {}", target.host, String::from_utf8_lossy(&body))
        })?;
    }
    driver.abort();
    Ok(times)
}

/// `count` TCP streams one after the other, each from its connect to the first byte back.
pub(crate) async fn streams(address: SocketAddr, count: usize) -> Result<Figures, Failure> {
    let all_began = Instant::now();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let exchange = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(b"!").await?;
            stream.read_exact(&mut [0; 1]).await?;
            let time = began.elapsed();
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
            Ok::<_, std::io::Error>(time)
        };
        times.push(within(LONGEST, "a stream", exchange).await?.because(address)?);
    }
    figures(times, all_began.elapsed())
}

fn figures(mut times: Vec<Duration>, time: Duration) -> Result<Figures, Failure> {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    let (p50, p99) = at(50).zip(at(99)).because("nothing was measured")?;
    let count = u32::try_from(times.len()).because("too many measurements")?;
    Ok(Figures { per_second: f64::from(count) / time.as_secs_f64(), p50, p99 })
}
