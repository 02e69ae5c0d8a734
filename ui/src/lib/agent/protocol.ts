// Generated from protocol/src by its tests: do not edit.
// Again: POSTERN_BLESS=1 cargo test -p postern-protocol

/**
 * A stable error code.
 */
export type Code = "token_missing" | "token_invalid" | "token_expired" | "token_wrong_device" | "session_revoked" | "session_unknown" | "principal_revoked" | "device_revoked" | "device_unknown" | "certificate_invalid" | "certificate_expired" | "identity_token_invalid" | "identity_token_stale" | "identity_token_unbound" | "identity_token_used" | "csr_invalid" | "device_owned" | "service_account_unregistered" | "logout_token_invalid" | "event_invalid" | "policy_denied" | "app_unknown" | "posture_stale" | "step_up_required" | "device_not_compliant" | "request_invalid" | "path_ambiguous" | "authority_mismatch" | "misdirected" | "headers_too_large" | "body_too_large" | "method_not_allowed" | "not_found" | "app_kind_mismatch" | "rate_limited" | "upstream_unreachable" | "upstream_timeout" | "upstream_invalid" | "upstream_blocked" | "draining" | "audit_unavailable" | "store_unavailable" | "provider_unreachable" | "internal" | "not_signed_in" | "sign_in_cancelled" | "sign_in_timeout" | "sign_in_failed" | "provider_invalid" | "provider_no_s256" | "callback_rejected" | "keyring_unavailable" | "keyring_locked" | "relay_unreachable" | "relay_untrusted" | "discovery_invalid" | "agent_not_running" | "agent_running" | "peer_refused" | "cross_site" | "host_refused" | "state_dir" | "config_invalid" | "version_unsupported" | "refresh_refused" | "browser_unavailable" | "port_in_use" | "captive_portal" | "clock_wrong" | "service_failed";

/**
 * An app's name: one DNS label in lower case (RFC 1035 §2.3.1), so that `http://<app>.localhost` works.
 */
export type AppName = string;

/**
 * A decision's identifier: 32 lower-case hexadecimal digits; the first twelve are the time in milliseconds.
 */
export type DecisionId = string;

/**
 * A device's identifier: 32 lower-case hexadecimal digits, derived from its public key.
 */
export type DeviceId = string;

/**
 * A session's identifier: 32 lower-case hexadecimal digits, random.
 */
export type SessionId = string;

/**
 * Milliseconds since the Unix epoch.
 */
export type Timestamp = number;

/**
 * A refusal or failure. The only error that crosses a boundary between programs.
 */
export type Problem = { 
/**
 * A URI that names the kind of problem: `urn:postern:error:<code>`.
 */
type: string, 
/**
 * One line for a person, the same for every problem of this code.
 */
title: string, 
/**
 * The HTTP status, repeated (RFC 9457 §3.1.2).
 */
status: number, 
/**
 * The stable code.
 */
code: Code, 
/**
 * What happened this time. Never a secret, never policy text.
 */
detail?: string, 
/**
 * The decision this refusal came from, if one was made.
 */
decision?: DecisionId, 
/**
 * Why, in the policy author's words (`@reason`).
 */
reason?: string, 
/**
 * What the user can do: the policy author's words (`@fix`), else the code's own advice.
 */
fix?: string, 
/**
 * What sign-in would do, where the code is `step_up_required`.
 */
step_up?: StepUp, };

/**
 * The sign-in that a refusal asks for (RFC 9470 §3): a fresh one, or one of a certain strength, or both.
 */
export type StepUp = { 
/**
 * Most seconds since the person proved themself: `max_age` of the next authorization request.
 */
max_age?: number, 
/**
 * Authentication context classes, any of which will do, the preferred first, with spaces between.
 */
acr_values?: string, };

/**
 * A principal as shown to people. Identity is (issuer, subject) alone.
 */
export type Principal = { 
/**
 * The provider.
 */
issuer: string, 
/**
 * The provider's name for the principal.
 */
subject: string, 
/**
 * For people; never identity.
 */
email?: string, 
/**
 * For people; never identity.
 */
name?: string, 
/**
 * Groups of the current token; absent claim: none.
 */
groups: Array<string>, };

/**
 * The device's state as the agent saw it. Always self-asserted.
 */
export type Posture = { 
/**
 * `linux`, `macos`, `windows`.
 */
os: string, 
/**
 * The system's version, as it names itself.
 */
os_version: string, 
/**
 * The kernel's version, as it names itself. Absent: not known.
 */
kernel_version?: string, 
/**
 * The agent's version.
 */
agent_version: string, 
/**
 * Where the device key lives: `keyring`, `memory`, `file`, `tpm`.
 */
key_storage: string, 
/**
 * Is the system disk encrypted? Absent: not known.
 */
disk_encrypted?: boolean, 
/**
 * Is a host firewall on? Absent: not known.
 */
firewall?: boolean, 
/**
 * Does the screen lock by itself? Absent: not known.
 */
screen_lock?: boolean, };

/**
 * What an app speaks.
 */
export type AppKind = "http" | "tcp";

/**
 * One app as the principal sees it now.
 */
export type AppEntry = { 
/**
 * Its name.
 */
name: AppName, 
/**
 * What it speaks.
 */
kind: AppKind, 
/**
 * One line for people.
 */
description: string, 
/**
 * The port a `tcp` app is known by (`CONNECT app:port`).
 */
port?: number, 
/**
 * Would a request now be allowed?
 */
allowed: boolean, 
/**
 * If not: the policy author's reason.
 */
reason?: string, 
/**
 * If not: what to do.
 */
fix?: string, 
/**
 * If only a fresher or stronger sign-in is missing: which.
 */
step_up?: StepUp, };

/**
 * Where the agent stands.
 */
export type State = "signed_out" | "signing_in" | "enrolling" | "connecting" | "online" | "offline" | "expired" | "revoked";

/**
 * `GET /v1/status`.
 */
export type Status = { 
/**
 * Version of the agent.
 */
version: string, 
/**
 * Where it stands.
 */
state: State, 
/**
 * The relay's address, once given.
 */
relay?: string, 
/**
 * The organisation, once known.
 */
organisation?: string, 
/**
 * Who is signed in.
 */
principal?: Principal, 
/**
 * This device.
 */
device?: DeviceStatus, 
/**
 * The session.
 */
session?: SessionStatus, 
/**
 * How the relay is reached, while it is.
 */
carrier?: Carrier, 
/**
 * The device's state as this agent reported it last.
 */
posture?: Posture, 
/**
 * Why it is not online, where there is a reason to tell.
 */
problem?: Problem, };

/**
 * What carries the connection to the relay.
 */
export type Carrier = "quic" | "tcp";

/**
 * The device in [`Status`].
 */
export type DeviceStatus = { 
/**
 * What the device calls itself.
 */
name: string, 
/**
 * Its identifier, once enrolled.
 */
id?: DeviceId, 
/**
 * base64url(SHA-256(SubjectPublicKeyInfo)): what a service account registers at the relay.
 */
key_thumbprint: string, 
/**
 * Where the key lives: `keyring`, `memory`, `file`.
 */
key_storage: string, 
/**
 * When the certificate ends.
 */
certificate_expires?: Timestamp, 
/**
 * The certificate's one identity.
 */
spiffe_id?: string, };

/**
 * The session in [`Status`].
 */
export type SessionStatus = { 
/**
 * Its identifier.
 */
id: SessionId, 
/**
 * When the current session token ends; it is renewed before.
 */
token_expires?: Timestamp, 
/**
 * When the person last proved themself at the provider, if that is known.
 */
signed_in?: Timestamp, 
/**
 * When the session ends unless the person signs in again; absent: it renews itself.
 */
ends?: Timestamp, };

/**
 * `POST /v1/logout`: no secret of the session is left on this device.
 */
export type SignedOut = { 
/**
 * Who should know that the session is over and could not be told. Empty where everybody knows.
 */
untold: Array<Untold>, 
/**
 * Version of the agent.
 */
version: string, 
/**
 * Where it stands.
 */
state: State, 
/**
 * The relay's address, once given.
 */
relay?: string, 
/**
 * The organisation, once known.
 */
organisation?: string, 
/**
 * Who is signed in.
 */
principal?: Principal, 
/**
 * This device.
 */
device?: DeviceStatus, 
/**
 * The session.
 */
session?: SessionStatus, 
/**
 * How the relay is reached, while it is.
 */
carrier?: Carrier, 
/**
 * The device's state as this agent reported it last.
 */
posture?: Posture, 
/**
 * Why it is not online, where there is a reason to tell.
 */
problem?: Problem, };

/**
 * Someone who could not be told of a sign-out.
 */
export type Untold = { 
/**
 * Who.
 */
who: Party, 
/**
 * The session, as `postern-relay revoke session` names it.
 */
session: SessionId, 
/**
 * When its last session token ends by itself, if that is known.
 */
token_ends?: Timestamp, 
/**
 * Why they could not be told, and what to do about it.
 */
problem: Problem, };

/**
 * Who knows of a session besides the device.
 */
export type Party = "relay" | "provider";

/**
 * `GET /v1/apps`.
 */
export type LocalApps = { 
/**
 * The apps, by name.
 */
apps: Array<LocalApp>, };

/**
 * An app and where it is reached on this machine.
 */
export type LocalApp = { 
/**
 * `http://app.localhost:port/`, or `127.0.0.1:port` of a `tcp` app.
 */
local: string, 
/**
 * A command line that reaches it, where its port is that of a well-known protocol: `ssh`, `psql`.
 */
command?: string, 
/**
 * Why that address does not work, where it does not: another program has the port.
 */
problem?: Problem, 
/**
 * Its name.
 */
name: AppName, 
/**
 * What it speaks.
 */
kind: AppKind, 
/**
 * One line for people.
 */
description: string, 
/**
 * The port a `tcp` app is known by (`CONNECT app:port`).
 */
port?: number, 
/**
 * Would a request now be allowed?
 */
allowed: boolean, 
/**
 * If not: the policy author's reason.
 */
reason?: string, 
/**
 * If not: what to do.
 */
fix?: string, 
/**
 * If only a fresher or stronger sign-in is missing: which.
 */
step_up?: StepUp, };

/**
 * `POST /v1/login`.
 */
export type LoginRequest = { 
/**
 * The relay's address as typed: `relay.example`, `relay.example:8443`, or an https URL. Absent: the one
 * in the configuration or of the last sign-in.
 */
address?: string, 
/**
 * A further authority, in PEM, to trust for the relay's public listener.
 */
ca_pem?: string, 
/**
 * How to sign in.
 */
method: LoginMethod, 
/**
 * Keep secrets in memory only if there is no usable keyring.
 */
allow_memory_only: boolean, 
/**
 * While a session lives: sign in again to prolong it. It stays the same session and nothing of it is dropped.
 */
renew: boolean, 
/**
 * With `renew`: the app that wants more than a session; the sign-in is made as that app's policy wants it.
 */
app?: AppName, };

/**
 * How to sign in.
 */
export type LoginMethod = "browser" | "no_browser" | "device_code" | "service_account";

/**
 * A line of the answer to [`LOGIN`].
 */
export type LoginEvent = { "step": "authorize", 
/**
 * The authorization URL.
 */
url: string, } | { "step": "device_code", 
/**
 * Where.
 */
verification_uri: string, 
/**
 * The same with the code filled in, where the provider offers it.
 */
verification_uri_complete?: string | null, 
/**
 * What.
 */
user_code: string, 
/**
 * When it ends.
 */
expires: Timestamp, } | { "step": "signed_in" } | { "step": "key_ready", 
/**
 * Where it lives: `keyring`, `memory`, `file`.
 */
storage: string, } | { "step": "enrolled", 
/**
 * The device.
 */
device: DeviceId, } | { "step": "online", 
/**
 * The whole state.
 */
status: Status, } | { "step": "failed", 
/**
 * Why.
 */
problem: Problem, };

/**
 * `GET /v1/denials`.
 */
export type Denials = { 
/**
 * The last refusals, the newest first.
 */
denials: Array<Denial>, };

/**
 * A refusal that the agent remembers.
 */
export type Denial = { 
/**
 * When, by the device's clock.
 */
at: Timestamp, 
/**
 * The app asked for.
 */
app: AppName, 
/**
 * What was refused.
 */
kind: DenialKind, 
/**
 * Why, by which decision, and what to do.
 */
problem: Problem, };

/**
 * What a [`Denial`] refused.
 */
export type DenialKind = "request" | "stream" | "cut" | "held";

/**
 * A line of [`EVENTS`].
 */
export type LocalEvent = { "event": "status", 
/**
 * The whole state.
 */
status: Status, } | { "event": "apps", 
/**
 * All of them.
 */
apps: Array<LocalApp>, } | { "event": "denied", 
/**
 * The app asked for.
 */
app: AppName, 
/**
 * The decision, where the relay made one.
 */
decision?: DecisionId | null, 
/**
 * Why.
 */
problem: Problem, 
/**
 * When, by the device's clock.
 */
at: Timestamp, 
/**
 * What was refused.
 */
kind: DenialKind, } | { "event": "held", 
/**
 * The app they lead to.
 */
app: AppName, 
/**
 * Why, by which decision, and what to do.
 */
problem: Problem, 
/**
 * When they are cut if nothing is done, by the relay's clock.
 */
until: Timestamp, } | { "event": "resumed", 
/**
 * The app they lead to.
 */
app: AppName, } | { "event": "activity", 
/**
 * What is new; some are left out where there are too many.
 */
entries: Array<ActivityEntry>, } | { "event": "traffic", 
/**
 * Those that changed.
 */
apps: Array<AppTraffic>, };

/**
 * `GET /v1/activity`.
 */
export type Activity = { 
/**
 * The newest first; the agent keeps the last 500, in memory only.
 */
entries: Array<ActivityEntry>, };

/**
 * One request, or one thing that happened to a stream.
 */
export type ActivityEntry = { 
/**
 * Grows by one with each entry of this agent's life; names the entry.
 */
number: number, 
/**
 * When it began, by the device's clock.
 */
at: Timestamp, 
/**
 * The app asked for.
 */
app: AppName, 
/**
 * What it is.
 */
kind: ActivityKind, 
/**
 * The HTTP method, of a request.
 */
method?: string, 
/**
 * The path of a request, without its query, shortened to 200 characters.
 */
path?: string, 
/**
 * The status that the app answered a request with.
 */
status?: number, 
/**
 * Milliseconds until the answer began.
 */
took_ms?: number, 
/**
 * The relay's decision, where it is known.
 */
decision?: DecisionId, 
/**
 * Why it was refused, cut or held; absent of what was allowed.
 */
problem?: Problem, };

/**
 * What an [`ActivityEntry`] tells of.
 */
export type ActivityKind = "request" | "stream" | "cut" | "held";

/**
 * How one app is used now.
 */
export type AppTraffic = { 
/**
 * The app.
 */
app: AppName, 
/**
 * Live streams and requests under way.
 */
streams: number, 
/**
 * Milliseconds until the last answer began, or the last stream was open.
 */
latency_ms?: number, 
/**
 * When it was last used, by the device's clock.
 */
last_used?: Timestamp, };

/**
 * What `doctor` looks at.
 */
export type Check = "agent" | "keyring" | "clock" | "relay_tcp" | "relay_quic" | "captive_portal" | "certificate" | "session" | "listeners";

/**
 * How a check came out.
 */
export type CheckResult = "ok" | "warning" | "failed" | "skipped";

/**
 * A line of the answer to `POST /v1/doctor`: each check as it ends, in the order of [`Check`].
 */
export type Finding = { 
/**
 * What was looked at.
 */
check: Check, 
/**
 * How it is.
 */
result: CheckResult, 
/**
 * One line for a person: what was found.
 */
summary: string, 
/**
 * What to do, unless all is well.
 */
fix?: string, 
/**
 * The stable code of what is wrong, unless all is well.
 */
code?: Code, 
/**
 * Milliseconds it took.
 */
took_ms: number, };

/**
 * `GET /v1/logs`.
 */
export type Logs = { 
/**
 * The oldest first; the agent keeps the last 1000 in memory.
 */
lines: Array<LogLine>, };

/**
 * One line of the agent's log.
 */
export type LogLine = { 
/**
 * When, by the device's clock.
 */
at: Timestamp, 
/**
 * `error`, `warn`, `info`, `debug`.
 */
level: string, 
/**
 * What, printable, without secrets.
 */
text: string, };

/**
 * `GET` and `PUT /v1/settings`: kept in the state directory, taken at once. What `config.toml` says goes first.
 */
export type Settings = { 
/**
 * The local port of HTTP apps; 0: chosen once and remembered.
 */
http_port: number, 
/**
 * Fixed local ports of TCP apps.
 */
ports: { [key in AppName]: number }, 
/**
 * What `config.toml` fixes and cannot be changed here: `http_port`, or the names of apps. Ignored in a `PUT`.
 */
fixed: Array<string>, };
