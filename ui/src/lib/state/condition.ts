// In which of the designed states an organisation is: one word, derived from all that is known, that the views switch on.

import type { Problem, Timestamp } from "$lib/agent/protocol";
import type { AgentModel } from "./model";

export type Condition =
  | "loading"
  | "no_agent"
  | "peer_refused"
  | "agent_trouble"
  | "update_needed"
  | "first_run"
  | "signed_out"
  | "signing_in"
  | "cancelled"
  | "sign_in_failed"
  | "enrolling"
  | "connecting"
  | "online"
  | "degraded"
  | "expiring"
  | "offline"
  | "captive_portal"
  | "clock_wrong"
  | "keyring_locked"
  | "keyring_unavailable"
  | "expired"
  | "revoked";

/** How long before its end a session is worth a warning. */
export const WARN_BEFORE_MS = 10 * 60_000;

export function condition(agent: AgentModel | undefined, now: Timestamp): Condition {
  if (!agent) return "loading";
  if (agent.gone) return gone(agent.gone);
  const status = agent.status;
  if (!status) return "loading";

  // A sign-in of this window is in the foreground until it ended or was put aside; a renewal happens in the background.
  const login = agent.login;
  if (login && !login.renew && login.step !== "online") {
    if (login.step === "failed" && login.problem) return failed(login.problem);
    return ["signed_in", "enrolled"].includes(login.step) ? "enrolling" : "signing_in";
  }

  switch (status.state) {
    case "online":
      if (expiring(agent, now)) return "expiring";
      return status.carrier === "tcp" ? "degraded" : "online";
    case "signed_out":
      return troubled(status.problem) ?? (status.relay ? "signed_out" : "first_run");
    case "offline":
    case "connecting":
      return troubled(status.problem) ?? status.state;
    default:
      return status.state;
  }
}

/** Does the session end within the warning time? Where no end is told, it renews itself. */
export function expiring(agent: AgentModel, now: Timestamp): boolean {
  const ends = agent.status?.session?.ends;
  return ends !== undefined && ends - now <= WARN_BEFORE_MS;
}

/** Can apps be used now? */
export function usable(condition: Condition): boolean {
  return condition === "online" || condition === "degraded" || condition === "expiring";
}

export type Tone = "good" | "busy" | "warn" | "bad" | "idle";

/** How a condition feels. Never the only carrier of it: each has words and a gate of its own. */
export const TONE: Record<Condition, Tone> = {
  loading: "busy",
  no_agent: "idle",
  peer_refused: "bad",
  agent_trouble: "bad",
  update_needed: "warn",
  first_run: "idle",
  signed_out: "idle",
  signing_in: "busy",
  cancelled: "idle",
  sign_in_failed: "bad",
  enrolling: "busy",
  connecting: "busy",
  online: "good",
  degraded: "warn",
  expiring: "warn",
  offline: "bad",
  captive_portal: "warn",
  clock_wrong: "bad",
  keyring_locked: "warn",
  keyring_unavailable: "warn",
  expired: "warn",
  revoked: "bad",
};

function gone(problem: Problem): Condition {
  switch (problem.code) {
    case "peer_refused":
      return "peer_refused";
    case "version_unsupported":
      return "update_needed";
    case "agent_not_running":
      return "no_agent";
    default:
      return "agent_trouble";
  }
}

function failed(problem: Problem): Condition {
  if (problem.code === "sign_in_cancelled") return "cancelled";
  return troubled(problem) ?? "sign_in_failed";
}

/** Problems that have a page of their own. */
function troubled(problem: Problem | undefined): Condition | undefined {
  switch (problem?.code) {
    case "captive_portal":
    case "clock_wrong":
    case "keyring_locked":
    case "keyring_unavailable":
      return problem.code;
    case "version_unsupported":
      return "update_needed";
    default:
      return undefined;
  }
}
