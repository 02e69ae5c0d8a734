// Believable data for the agent in memory: one person, one device, a dozen apps, a morning of work.

import type { Organisation, Preferences } from "../desktop";
import { problem } from "../problem";
import type {
  ActivityEntry,
  AppKind,
  AppTraffic,
  DecisionId,
  Finding,
  LocalApp,
  LogLine,
  Posture,
  Problem,
  Status,
  Timestamp,
} from "../protocol";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

export const ORGANISATION: Organisation = {
  id: "default",
  label: "Northwind Trust",
  state_dir: "/home/ada/.local/state/postern",
  service: "installed",
};

export const PREFERENCES: Preferences = {
  theme: "system",
  language: "system",
  notifications: true,
  start_at_login: true,
  start_hidden: false,
  favourites: { default: ["wiki", "tickets"] },
  selected: "default",
};

const POSTURE: Posture = {
  os: "linux",
  os_version: "Debian GNU/Linux 12 (bookworm)",
  kernel_version: "6.1.0-29-amd64",
  agent_version: "0.4.0",
  key_storage: "keyring",
  disk_encrypted: true,
  firewall: false,
  // `screen_lock` is absent: not known.
};

export function signedOut(): Status {
  return { version: "0.4.0", state: "signed_out" };
}

/** Signed in, connected, everything told. */
export function online(now: Timestamp): Status {
  return {
    version: "0.4.0",
    state: "online",
    relay: "relay.northwind.example",
    organisation: "Northwind Trust",
    principal: {
      issuer: "https://login.northwind.example",
      subject: "8f14e45f",
      email: "ada@northwind.example",
      name: "Ada Lovelace",
      groups: ["engineering", "on-call"],
    },
    device: {
      name: "ada-thinkpad",
      id: "5d41402abc4b2a76b9719d911017c592",
      key_thumbprint: "kLxSb7bVn0H2m3cQm6hS1tYk9w0V8Qd2Zr1uX5oPq3E",
      key_storage: "keyring",
      certificate_expires: now + 17 * HOUR,
      spiffe_id: "spiffe://northwind.example/device/5d41402abc4b2a76b9719d911017c592",
    },
    session: {
      id: "7d793037a0760186574b0282f2f435e7",
      token_expires: now + 4 * MINUTE,
      signed_in: now - 3 * HOUR,
      ends: now + 5 * HOUR + 12 * MINUTE,
    },
    carrier: "quic",
    posture: POSTURE,
  };
}

export function webApp(name: string, description: string, more: Partial<LocalApp> = {}): LocalApp {
  return { name, kind: "http", description, allowed: true, local: `http://${name}.localhost:7080/`, ...more };
}

export function tcpApp(name: string, description: string, port: number, local: number, command?: string): LocalApp {
  const address = `127.0.0.1:${local}`;
  return { name, kind: "tcp", description, allowed: true, port, local: address, ...(command && { command }) };
}

export function apps(): LocalApp[] {
  return [
    webApp("build", "Pipelines and their results"),
    tcpApp("bastion", "Shell on the jump host", 22, 20022, "ssh -p 20022 127.0.0.1"),
    webApp("calendar", "Rooms and on-call"),
    tcpApp("ledger-db", "Read replica of the ledger", 5432, 25432, "psql -h 127.0.0.1 -p 25432"),
    webApp("metrics", "Dashboards of every service"),
    webApp("payroll", "Salaries and payslips", {
      allowed: false,
      reason: "Payroll opens only after a sign-in within the last 15 minutes.",
      fix: "Sign in once more; what you opened then goes on.",
      step_up: { max_age: 900 },
    }),
    webApp("people", "Who is who, and where"),
    tcpApp("queue", "Message broker, test system", 5672, 25672),
    webApp("sources", "Code and reviews"),
    webApp("tickets", "Support and incidents"),
    webApp("vault", "Secrets of the production systems", {
      allowed: false,
      reason: "Only devices with a firewall switched on may reach vault.",
      fix: "Turn on the firewall of this device. Access returns by itself within a minute.",
    }),
    webApp("wiki", "What we know, written down"),
  ];
}

export function manyApps(count: number): LocalApp[] {
  const kinds: AppKind[] = ["http", "http", "http", "tcp"];
  return Array.from({ length: count }, (_, i) => {
    const name = `service-${String(i + 1).padStart(3, "0")}`;
    const about = `Team ${1 + (i % 24)}: ${["orders", "search", "billing", "stock"][i % 4] ?? "stock"}`;
    return kinds[i % 4] === "tcp" ? tcpApp(name, about, 9000 + i, 30000 + i) : webApp(name, about);
  });
}

export function traffic(now: Timestamp): AppTraffic[] {
  return [
    { app: "wiki", streams: 3, latency_ms: 24, last_used: now - MINUTE },
    { app: "bastion", streams: 1, latency_ms: 11, last_used: now - 2 * MINUTE },
    { app: "tickets", streams: 0, latency_ms: 48, last_used: now - 31 * MINUTE },
    { app: "sources", streams: 2, latency_ms: 19, last_used: now },
  ];
}

export function decision(n: number): DecisionId {
  return `019ac5d3${n.toString(16).padStart(24, "0")}`;
}

export function denial(n: number): Problem {
  return problem("policy_denied", "The policy does not allow this", {
    status: 403,
    decision: decision(n),
    reason: "Only devices with a firewall switched on may reach vault.",
    fix: "Turn on the firewall of this device. Access returns by itself within a minute.",
  });
}

const PATHS = ["/", "/search", "/pages/on-call", "/api/issues/4711", "/assets/app.js", "/pipelines/893", "/login"];
const USED = ["wiki", "sources", "tickets", "metrics", "bastion", "vault"];

export function activity(now: Timestamp, count: number): ActivityEntry[] {
  return Array.from({ length: count }, (_, i) => entry(now - i * 47_000, count - i));
}

export function entry(at: Timestamp, number: number): ActivityEntry {
  const app = USED[number % USED.length] ?? "wiki";
  const base = { number, at, app, decision: decision(number) };
  if (app === "vault") return { ...base, kind: "request", method: "GET", path: "/", problem: denial(number) };
  if (app === "bastion" && number % 4 === 0) {
    return { ...base, kind: "cut", problem: { ...denial(number), code: "device_not_compliant", title: "The device does not meet your organisation's rules" } };
  }
  if (app === "bastion") return { ...base, kind: "stream", took_ms: 11 + (number % 9) };
  const path = PATHS[number % PATHS.length] ?? "/";
  return { ...base, kind: "request", method: "GET", path, status: number % 13 === 0 ? 304 : 200, took_ms: 8 + ((number * 7) % 60) };
}

export const FINDINGS: Finding[] = [
  { check: "agent", result: "ok", summary: "The agent runs, version 0.4.0", took_ms: 1 },
  { check: "keyring", result: "ok", summary: "Secret Service answers and keeps secrets", took_ms: 12 },
  { check: "captive_portal", result: "ok", summary: "Nothing stands between this device and the relay", took_ms: 64 },
  { check: "relay_tcp", result: "ok", summary: "relay.northwind.example:443 answers over TCP", took_ms: 41 },
  {
    check: "relay_quic",
    result: "warning",
    summary: "No answer over QUIC within 3 s",
    fix: "This network seems to block UDP 443. Everything works over TCP; ask the network's owner if it should be faster.",
    code: "relay_unreachable",
    took_ms: 3004,
  },
  { check: "clock", result: "ok", summary: "The clock is 0.2 s from the relay's", took_ms: 0 },
  { check: "certificate", result: "ok", summary: "The certificate is valid for 17 h", took_ms: 0 },
  { check: "session", result: "ok", summary: "Signed in, and the session renews itself", took_ms: 0 },
  { check: "listeners", result: "ok", summary: "All 12 local addresses work", took_ms: 3 },
];

/** One finding of each severity: away from the relay, with a clock that is somewhat off. */
export const TROUBLED: Finding[] = [
  { check: "agent", result: "ok", summary: "The agent runs, version 0.4.0", took_ms: 1 },
  { check: "keyring", result: "ok", summary: "Secret Service answers and keeps secrets", took_ms: 12 },
  { check: "captive_portal", result: "ok", summary: "Nothing stands between this device and the relay", took_ms: 64 },
  {
    check: "relay_tcp",
    result: "failed",
    summary: "relay.northwind.example:443 does not answer over TCP",
    fix: "Check the address and the network; a firewall may stand in the way.",
    code: "relay_unreachable",
    took_ms: 5002,
  },
  { check: "relay_quic", result: "failed", summary: "No answer over QUIC within 3 s", fix: "Check the address and the network.", code: "relay_unreachable", took_ms: 3004 },
  { check: "clock", result: "warning", summary: "The clock is 42 s from the relay's", fix: "Set date and time, best automatically.", code: "clock_wrong", took_ms: 0 },
  { check: "certificate", result: "ok", summary: "The certificate is valid for 17 h", took_ms: 0 },
  { check: "session", result: "skipped", summary: "Can only be checked with the relay in reach", took_ms: 0 },
  {
    check: "listeners",
    result: "warning",
    summary: "11 of 12 local addresses work; 127.0.0.1:20022 is taken by another program",
    fix: "End the other program, or choose another port in Settings.",
    code: "port_in_use",
    took_ms: 3,
  },
];

export function logs(now: Timestamp): LogLine[] {
  const texts: [string, string][] = [
    ["info", "agent started, version 0.4.0"],
    ["info", "connected to relay.northwind.example over quic, X25519MLKEM768"],
    ["info", "session renewed, next in 4 min"],
    ["warn", "vault: denied, policy_denied"],
    ["debug", "posture unchanged"],
  ];
  return Array.from({ length: 120 }, (_, i) => {
    const [level, text] = texts[i % texts.length] ?? ["info", ""];
    return { at: now - (120 - i) * 20_000, level, text };
  });
}
