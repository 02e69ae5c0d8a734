// The states that the agent in memory can start in: `?scenario=NAME`.

import { problem } from "../problem";
import type { ActivityEntry, AppTraffic, Finding, LocalApp, Problem, Status, Timestamp } from "../protocol";
import * as data from "./fixtures";

export interface World {
  status?: Status;
  gone?: Problem;
  apps: LocalApp[];
  traffic: AppTraffic[];
  activity: ActivityEntry[];
  held?: { app: string; problem: Problem; until: Timestamp };
  /** What doctor finds; `halts`: after so many, never to end. */
  doctor?: { findings: readonly Finding[]; halts?: number };
  /** A sign-in in the foreground: the last step that it made. */
  login?: "authorize" | "signed_in" | "cancelled" | "keyring_locked" | "failed";
}

const EMPTY = { apps: [], traffic: [], activity: [] };

export const SCENARIOS = {
  first_run: () => ({ ...EMPTY, status: data.signedOut() }),
  online: working,
  no_agent: () => gone(problem("agent_not_running", "The agent is not running", { fix: "Run: postern agent run" })),
  peer_refused: () => gone(problem("peer_refused", "Another user of this machine owns this agent", { fix: "Use your own agent." })),
  agent_trouble: () =>
    gone(
      problem("state_dir", "The state directory cannot be used", {
        detail: "/home/ada/.local/state/postern can be written by others",
        fix: "Give a directory that you own and that nobody else can write, with --state-dir.",
      }),
    ),
  update_needed: () =>
    gone(
      problem("version_unsupported", "Agent and relay do not speak the same version", {
        detail: "this program speaks 2, the agent 1",
        fix: "Update the older one.",
      }),
    ),
  signed_out: (now) => ({ ...EMPTY, status: { ...known(now), state: "signed_out" } }),
  signing_in: (now) => ({ ...EMPTY, status: { ...known(now), state: "signing_in" }, login: "authorize" }),
  cancelled: (now) => ({ ...EMPTY, status: { ...known(now), state: "signed_out" }, login: "cancelled" }),
  sign_in_failed: (now) => ({ ...EMPTY, status: { ...known(now), state: "signed_out" }, login: "failed" }),
  enrolling: (now) => ({ ...EMPTY, status: { ...known(now), state: "enrolling" }, login: "signed_in" }),
  connecting: (now) => changed(now, { state: "connecting" }),
  degraded: (now) => changed(now, { carrier: "tcp" }),
  offline: (now) => changed(now, { state: "offline", problem: unreachable() }),
  captive_portal: (now) =>
    changed(now, {
      state: "offline",
      problem: problem("captive_portal", "This network wants you to sign in to it first", {
        fix: "Open any web page, sign in to the network, then try again.",
      }),
    }),
  clock_wrong: (now) =>
    changed(now, {
      state: "offline",
      problem: problem("clock_wrong", "This device's clock is wrong", {
        detail: "it is 3 days behind the relay's",
        fix: "Set the device's date and time, best automatically.",
      }),
    }),
  expiring: (now) => {
    const world = working(now);
    const session = { ...data.online(now).session, id: "7d793037a0760186574b0282f2f435e7", ends: now + 7 * data.MINUTE + 500 };
    return { ...world, status: { ...data.online(now), session } };
  },
  expired: (now) => ({
    ...working(now),
    traffic: [],
    status: {
      ...data.online(now),
      state: "expired",
      problem: problem("refresh_refused", "The provider ended the sign-in", { fix: "Sign in again." }),
    },
  }),
  revoked: (now) => ({
    ...EMPTY,
    status: {
      ...known(now),
      state: "revoked",
      problem: problem("device_revoked", "The device's access was revoked", {
        decision: data.decision(99),
        reason: "Reported lost on Monday. Call the service desk if you found it: extension 4400.",
        fix: "Ask your administrator.",
      }),
    },
  }),
  keyring_locked: (now) => ({ ...EMPTY, status: { ...known(now), state: "signed_out" }, login: "keyring_locked" }),
  keyring_unavailable: (now) => ({
    ...EMPTY,
    status: {
      ...known(now),
      state: "signed_out",
      problem: problem("keyring_unavailable", "No keyring is available to keep secrets in", {
        detail: "no Secret Service on the session bus",
      }),
    },
  }),
  no_apps: (now) => ({ ...EMPTY, status: data.online(now) }),
  many_apps: (now) => ({ ...working(now), apps: data.manyApps(500), activity: data.activity(now, 500) }),
  long_names: longNames,
  hostile,
  doctor_fine: (now) => ({ ...working(now), doctor: { findings: data.FINDINGS.filter(({ result }) => result === "ok") } }),
  doctor_troubled: (now) => ({ ...changed(now, { state: "offline", problem: unreachable() }), doctor: { findings: data.TROUBLED } }),
  doctor_running: (now) => ({ ...working(now), doctor: { findings: data.TROUBLED, halts: 6 } }),
  held: (now) => ({
    ...working(now),
    held: {
      app: "bastion",
      problem: problem("posture_stale", "The device's state was not reported lately", {
        fix: "Let the agent report again; restart it if this stays.",
      }),
      until: now + 90_000,
    },
  }),
} as const satisfies Record<string, (now: Timestamp) => World>;

export type Scenario = keyof typeof SCENARIOS;

export function isScenario(name: string | null): name is Scenario {
  return name !== null && Object.hasOwn(SCENARIOS, name);
}

function working(now: Timestamp): World {
  return { status: data.online(now), apps: data.apps(), traffic: data.traffic(now), activity: data.activity(now, 80) };
}

function changed(now: Timestamp, change: Partial<Status>): World {
  const { carrier: _, ...status } = data.online(now);
  const carried = change.state === undefined ? { carrier: "quic" as const } : {};
  return { ...working(now), traffic: [], status: { ...status, ...carried, ...change } };
}

/** Of a relay that was signed in to before. */
function known(now: Timestamp): Status {
  const { version, relay, organisation, device } = data.online(now);
  return { version, state: "signed_out", ...(relay && { relay }), ...(organisation && { organisation }), ...(device && { device }) };
}

function gone(why: Problem): World {
  return { ...EMPTY, gone: why };
}

function unreachable(): Problem {
  return problem("relay_unreachable", "The relay cannot be reached", {
    detail: "no route to relay.northwind.example:443",
    fix: "Check the address and the network.",
  });
}

function longNames(now: Timestamp): World {
  const status = data.online(now);
  const name = "a-name-of-sixty-three-characters-which-is-all-that-dns-lets-it-b";
  return {
    ...working(now),
    status: {
      ...status,
      organisation: "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft & Söhne",
      relay: "relay.with.a.very.long.name.in.many.parts.so.that.it.must.wrap.somewhere.northwind.example:8443",
      principal: {
        issuer: "https://login.microsoftonline.example/2f4a9838-26b7-47ee-be60-ccc1fdec5953/v2.0/and/more",
        subject: "8f14e45f",
        name: "Wolfeschlegelsteinhausenbergerdorff-Featherstonehaugh, Adelheid Konstanze Maximiliane",
        groups: Array.from({ length: 40 }, (_, i) => `department-of-long-names-${i}`),
      },
    },
    apps: [
      data.webApp(name, "A description that goes on and on, since nobody told its author where to stop. ".repeat(6)),
      ...data.apps(),
    ],
  };
}

/** What a hostile relay or provider might send (A17). */
function hostile(now: Timestamp): World {
  const status = data.online(now);
  const script = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>';
  return {
    ...working(now),
    status: {
      ...status,
      organisation: `Evil\u202Egro.live ${script}`,
      principal: { issuer: "javascript:alert(1)", subject: script, name: `Ada\u0000\u0007\u202E${script}`, groups: [script] },
    },
    apps: [
      data.webApp("wiki", `${script} \u202Egnp.exe\u2066 ${"Z\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307".repeat(40)}`),
      data.webApp("payroll", "{count} ${1+1} {{7*7}}", { allowed: false, reason: script.repeat(30), fix: `\u202E${script}` }),
    ],
  };
}
