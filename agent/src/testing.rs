//! Servers on loopback for the unit tests of this crate.

use http::header::{HeaderValue, LOCATION};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use postern_client::user::User;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// Another user of this machine.
#[cfg(unix)]
pub(crate) fn stranger() -> User {
    User::numbered(User::own().to_string().parse::<u32>().unwrap() + 1)
}

/// Another user of this machine: the system itself.
#[cfg(windows)]
pub(crate) fn stranger() -> User {
    "S-1-5-18".parse().unwrap()
}

/// Sets the mode of a file, where there are modes.
#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(windows)]
pub(crate) fn set_mode(_: &Path, _: u32) {}

/// Is it the user's alone, as far as modes say?
#[cfg(unix)]
pub(crate) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600
}

#[cfg(windows)]
pub(crate) fn is_private(path: &Path) -> bool {
    path.exists()
}

/// A running server; gone when dropped.
pub(crate) struct Server {
    pub(crate) url: Url,
    /// The authority of its certificate, where it speaks TLS.
    pub(crate) ca_pem: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request as a handler sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    /// A field of the form in the body.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

pub(crate) type Answer = (u16, String);

pub(crate) async fn serve_http(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
    serve_requests(move |asked| answer(&asked.path)).await
}

/// Plain http, with the whole request at hand.
pub(crate) async fn serve_requests(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, Arc::clone(&answer)));
        }
    });
    Server { url, ca_pem: String::new(), task }
}

/// The same over TLS, under an authority made for it.
pub(crate) async fn serve_https(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
    serve_https_requests(move |asked| answer(&asked.path)).await
}

/// The same with the whole request at hand.
pub(crate) async fn serve_https_requests(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Server {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::NoCa;
    let (ca_key, mut ca) = (rcgen::KeyPair::generate().unwrap(), rcgen::CertificateParams::default());
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let certificate = params.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    speak(stream, answer).await;
                }
            });
        }
    });
    Server { url, ca_pem, task }
}

async fn speak<S, F>(stream: S, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Asked) -> Answer + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, 1 << 20)
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let (status, text) = answer(Asked {
                method: head.method.to_string(),
                path,
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            });
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            if status == 302 {
                response.headers_mut().insert(LOCATION, HeaderValue::from_static("/elsewhere"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
