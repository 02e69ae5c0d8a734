//! `--once`: the whole story, told by doing it. Each act checks what it shows.

use crate::apps::Seen;
use crate::failure::{Because as _, Failure, check, within};
use crate::process::run;
use crate::report::{Evidence, Report};
use crate::settings::{TRUST_DOMAIN, VAULT_FIX, VAULT_REASON};
use crate::sign_in::{SignIn, USER, app, status};
use crate::stage::{Scene, Stage};
use postern_protocol::headers::{DECISION, IDENTITY};
use postern_protocol::local::{State, Status};
use postern_protocol::{Code, DecisionId, DeviceId, Problem, SpiffeId, Timestamp};
use serde::Deserialize;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ACTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells it; 0 only if every act held.
pub(crate) async fn tell(stage: &mut Stage, as_json: bool) -> ExitCode {
    let mut report = Report::of(ACTS);
    let all = acts(stage, &mut report).await;
    let logs = if all.is_none() { stage.last_words() } else { Vec::new() };
    report.close(&logs, as_json)
}

async fn acts(stage: &mut Stage, report: &mut Report) -> Option<()> {
    let scene = report.step("Start a provider, a relay, three apps and an agent", start(stage)).await?;
    let who = report.step("Sign in over the browser's redirect", sign_in(&scene)).await?;
    report.step("The device has a certificate", certificate(&who)).await?;
    report.step("An HTTP request is allowed, and the app knows who asks", allowed(&scene, &who)).await?;
    report.step("TCP goes through, on a local port and on stdio", tcp(&scene)).await?;
    let denied = report.step("A request is denied, with a reason and what to do", denied(&scene)).await?;
    report.step("The user is revoked; the very next request is refused", revoke(&scene)).await?;
    report.step("The audit log proves what was decided", audit(stage, &scene, &denied)).await
}

async fn start(stage: &mut Stage) -> Result<(Scene, Evidence), Failure> {
    let scene = stage.raise(false).await?;
    let keyring = if scene.keyring { "gnome-keyring on a bus of its own" } else { "none installed: secrets in memory" };
    let evidence = Evidence::default()
        .with("provider", &scene.provider)
        .with("relay", &scene.relay)
        .with("agent", format!("http://<app>.localhost:{}/", scene.http_port))
        .with("keyring", keyring);
    Ok((scene, evidence))
}

async fn sign_in(scene: &Scene) -> Result<(Status, Evidence), Failure> {
    let way = SignIn::by_itself(scene).await?;
    let status = status(scene).await?;
    check(status.state == State::Online, || format!("the agent is {:?}, not online", status.state))?;
    let principal = status.principal.as_ref().because("nobody is signed in")?;
    check(principal.subject == USER && principal.issuer.trim_end_matches('/') == scene.provider, || {
        format!("somebody else is signed in: {principal:?}")
    })?;
    let name = principal.name.as_deref().unwrap_or("?");
    let evidence = Evidence::default()
        .with("command", format!("postern login {} --no-browser", scene.address))
        .with("browser", way.join("\n"))
        .with("signed in", format!("{name}, {} at {}", principal.subject, principal.issuer))
        .with("groups", principal.groups.join(", "));
    Ok((status, evidence))
}

async fn certificate(who: &Status) -> Result<((), Evidence), Failure> {
    let device = who.device.as_ref().because("postern status shows no device")?;
    let spiffe = device.spiffe_id.as_deref().because("postern status shows no SPIFFE id")?;
    let parsed: SpiffeId = spiffe.parse().because(spiffe)?;
    check(parsed.trust_domain.as_str() == TRUST_DOMAIN, || format!("{spiffe} is of another trust domain"))?;
    check(device.id.as_ref() == Some(&parsed.device), || format!("{spiffe} is another device than {:?}", device.id))?;
    let expires = device.certificate_expires.because("postern status shows no expiry")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).because("the clock")?;
    let left = expires.since(Timestamp::from_seconds(now.as_secs()));
    let day = Duration::from_secs(24 * 3600);
    check(!left.is_zero() && left <= day, || format!("the certificate ends at {expires}: not within a day"))?;
    let evidence = Evidence::default()
        .with("identity", spiffe)
        .with("ends", format!("{expires} (in {:.1} h)", left.as_secs_f64() / 3600.0))
        .with("device key", format!("P-256, kept in: {}", device.key_storage))
        .with("thumbprint", &device.key_thumbprint);
    Ok(((), evidence))
}

async fn allowed(scene: &Scene, who: &Status) -> Result<((), Evidence), Failure> {
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.";
    let request = http(scene)?.get(url(scene, "whoami", "/hello?from=demo"));
    let request = request.header(IDENTITY, forged).header("X_Postern_Identity", forged).header("x-postern-sub", "root");
    let answer = request.send().await.because("the request to whoami")?;
    let status = answer.status();
    let body = answer.text().await.because("the answer of whoami")?;
    check(status.is_success(), || format!("whoami answered {status}: {body}"))?;
    let seen: Seen = serde_json::from_str(&body).because("the answer of whoami")?;

    let line = format!("{} {}", seen.method, seen.path);
    check(line == "GET /hello?from=demo", || format!("the app saw {line}"))?;
    let refused = || format!("the app could not verify who asks: {}", seen.identity_refused.as_deref().unwrap_or("-"));
    let from = seen.identity.as_ref().because(refused())?;
    let session = who.session.as_ref().map(|session| session.id.as_str());
    let device = who.device.as_ref().and_then(|device| device.id.as_ref()).map(DeviceId::as_str);
    let right = from.sub == USER && Some(from.sid.as_str()) == session && Some(from.dev.as_str()) == device;
    check(right, || format!("the identity is another: {from:?}"))?;

    let reserved = |name: &str| name.replace('_', "-").to_ascii_lowercase().starts_with("x-postern-");
    let ours: Vec<_> = seen.headers.iter().map(|(name, _)| name).filter(|name| reserved(name)).collect();
    check(ours == [IDENTITY], || format!("forged headers came through: {ours:?}"))?;
    let evidence = Evidence::default()
        .with("request", format!("GET http://whoami.localhost:{}/hello?from=demo", scene.http_port))
        .with("sent along", format!("forged {IDENTITY}, X_Postern_Identity and x-postern-sub"))
        .with("app saw", line)
        .with(
            "from",
            format!("{} ({}), groups {}", from.sub, from.name.as_deref().unwrap_or("-"), from.groups.join(", ")),
        )
        .with("vouched by", format!("{}, for {}; verified with its JWKS", from.iss, from.aud))
        .with("forged", "none arrived: one identity header, the relay's own");
    Ok(((), evidence))
}

async fn tcp(scene: &Scene) -> Result<((), Evidence), Failure> {
    let echo = app(scene, "echo").await?;
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();

    let work = async {
        let stream = TcpStream::connect(&echo.local).await.because(format!("cannot connect to {}", echo.local))?;
        let (mut input, mut output) = stream.into_split();
        let (write, read) = tokio::join!(
            async {
                output.write_all(&sent).await?;
                output.shutdown().await
            },
            async {
                let mut back = Vec::new();
                input.read_to_end(&mut back).await.map(|_| back)
            }
        );
        write.because("sending")?;
        read.because("receiving")
    };
    let back = within(PATIENCE, "the echo on the local port", work).await??;
    check(back == sent, || format!("{} bytes sent, {} other bytes came back", sent.len(), back.len()))?;

    let line = "hello over stdio\n";
    let output = run(&mut scene.postern(&["connect", "echo"]), line.as_bytes()).await?.ok("postern connect echo")?;
    check(output == line, || format!("postern connect echo gave {output:?}"))?;
    let evidence = Evidence::default()
        .with("local port", format!("{}: {} bytes sent, the same came back, then the end", echo.local, sent.len()))
        .with("stdio", format!("postern connect echo: {:?} sent, the same came back", line.trim_end()));
    Ok(((), evidence))
}

async fn denied(scene: &Scene) -> Result<(DecisionId, Evidence), Failure> {
    let (header, problem) = refused(scene, "vault", "/gold").await?;
    check(problem.code == Code::PolicyDenied, || format!("the code is {}", problem.code))?;
    check(problem.reason.as_deref() == Some(VAULT_REASON), || format!("the reason is {:?}", problem.reason))?;
    check(problem.fix.as_deref() == Some(VAULT_FIX), || format!("the fix is {:?}", problem.fix))?;
    let decision = problem.decision.because("the refusal names no decision")?;
    check(header == decision.as_str(), || format!("the header {DECISION} is {header}, the document has {decision}"))?;
    let came = scene.apps.vault_requests();
    check(came == 0, || format!("{came} requests came as far as the vault"))?;
    let evidence = Evidence::default()
        .with("request", format!("GET http://vault.localhost:{}/gold", scene.http_port))
        .with("answer", format!("{} {}", problem.status, problem.code))
        .with("reason", VAULT_REASON)
        .with("what to do", VAULT_FIX)
        .with("decision", decision.as_str())
        .with("app saw", "nothing");
    Ok((decision, evidence))
}

async fn revoke(scene: &Scene) -> Result<((), Evidence), Failure> {
    let before = http(scene)?.get(url(scene, "whoami", "/before")).send().await.because("the request before")?;
    check(before.status().is_success(), || format!("before: {}", before.status()))?;
    let command = ["revoke", "user", USER];
    let receipt = run(&mut scene.postern_relay(&command), b"").await?.ok("postern-relay revoke user")?;
    let (_, problem) = refused(scene, "whoami", "/after").await?;
    check(problem.code == Code::PrincipalRevoked, || format!("the code is {}", problem.code))?;
    let by = match &problem.decision {
        Some(decision) => format!("the relay, decision {decision}"),
        None => "the agent, whom the relay had told by then".to_owned(),
    };
    let stdio = run(&mut scene.postern(&["connect", "echo"]), b"hello?\n").await?;
    let told = stdio.stderr.contains(Code::PrincipalRevoked.as_str());
    check(!stdio.success && stdio.stdout.is_empty() && told, || format!("echo still answers: {}", stdio.stdout))?;
    // A new sign-in does not help: the provider still knows the user, but the relay enrols no device for them.
    let again = SignIn::by_itself(scene).await.err().because("the revoked user signed in again")?.to_string();
    check(again.contains(Code::PrincipalRevoked.as_str()), || format!("the new sign-in failed otherwise: {again}"))?;
    let evidence = Evidence::default()
        .with("before", format!("GET /before → {}", before.status().as_u16()))
        .with("command", format!("postern-relay {}", command.join(" ")))
        .with("receipt", receipt)
        .with("after", format!("GET /after → {} {}: {}", problem.status, problem.code, problem.title))
        .with("refused by", by)
        .with("stdio", format!("postern connect echo → refused, {}", Code::PrincipalRevoked))
        .with("sign-in", format!("postern login → the relay refuses to enrol: {}", Code::PrincipalRevoked));
    Ok(((), evidence))
}

/// With the relay stopped: the log speaks for itself. Its last checkpoint was written on the way out.
async fn audit(stage: &mut Stage, scene: &Scene, denied: &DecisionId) -> Result<((), Evidence), Failure> {
    stage.stop_one("relay").await;
    let log = std::fs::read_to_string(&scene.audit).because(scene.audit.display())?;
    let records = log.lines().map(serde_json::from_str).collect::<Result<Vec<Record>, _>>().because("the audit log")?;
    let denial = records.iter().find(|record| record.decision.as_ref() == Some(denied));
    let denial = denial.because(format!("no record of decision {denied}"))?;
    check(denial.code == Some(Code::PolicyDenied), || format!("the record says {:?}", denial.code))?;
    let proof = run(&mut scene.postern_relay(&["audit", "verify"]), b"").await?.ok("postern-relay audit verify")?;
    let broken = tampered(scene, &log, denied).await?;
    let events: Vec<_> = records.iter().map(|record| record.event.as_str()).collect();
    let evidence = Evidence::default()
        .with("relay", "stopped: the log is proven without it")
        .with("records", events.join(", "))
        .with("the denial", denial.to_string())
        .with("command", "postern-relay audit verify")
        .with("proof", proof)
        .with("tampered", broken);
    Ok(((), evidence))
}

/// The fields of an audit record that the story shows.
#[derive(Deserialize)]
struct Record {
    seq: u64,
    event: String,
    result: Option<String>,
    code: Option<Code>,
    decision: Option<DecisionId>,
    app: Option<String>,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    policies: Vec<String>,
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "-".into());
        let (result, code) = (text(&self.result), self.code.map_or("-", Code::as_str));
        let request = format!("{} {} of {}", text(&self.method), text(&self.path), text(&self.app));
        write!(f, "no. {}: {request}: {result}, {code}, by {}", self.seq, self.policies.join(", "))
    }
}

/// What `audit verify` says of a copy in which the denial became something else.
async fn tampered(scene: &Scene, log: &str, denied: &DecisionId) -> Result<String, Failure> {
    let forge = |line: &str| {
        if line.contains(denied.as_str()) { line.replacen("vault", "whoami", 1) } else { line.to_owned() }
    };
    let copy = scene.log("audit-copy");
    std::fs::write(&copy, log.lines().map(|line| forge(line) + "\n").collect::<String>()).because(copy.display())?;
    let output = run(scene.postern_relay(&["audit", "verify"]).arg(&copy), b"").await?;
    check(!output.success, || format!("a changed copy passes as genuine: {}", output.stdout))?;
    Ok(format!("a copy with one record changed is refused: {}{}", output.stdout, output.stderr))
}

/// Asks for what must be refused: the decision's header and the problem document.
async fn refused(scene: &Scene, app: &str, path: &str) -> Result<(String, Problem), Failure> {
    let answer = http(scene)?.get(url(scene, app, path)).send().await.because(format!("the request to {app}"))?;
    let status = answer.status();
    let decision = answer.headers().get(DECISION).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let body = answer.text().await.because("the answer")?;
    check(!status.is_success(), || format!("{app} answered {status}: {body}"))?;
    let problem: Problem = serde_json::from_str(&body).because(format!("{status} with {body:?}"))?;
    check(problem.status == status.as_u16(), || format!("status {status}, but the document says {}", problem.status))?;
    Ok((decision, problem))
}

/// A client that finds `*.localhost` where browsers find it.
fn http(scene: &Scene) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([]);
    for app in ["whoami", "vault"] {
        builder = builder.resolve(&format!("{app}.localhost"), ([127, 0, 0, 1], scene.http_port).into());
    }
    builder.build().because("cannot make an HTTP client")
}

fn url(scene: &Scene, app: &str, path: &str) -> String {
    format!("http://{app}.localhost:{}{path}", scene.http_port)
}
