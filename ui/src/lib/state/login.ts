// A sign-in as the list of steps that a person sees.

import type { State } from "$lib/agent/protocol";
import type { Login, LoginFact } from "./model";

export interface LoginStep {
  id: "key" | "authorize" | "certificate" | "connected";
  state: "done" | "now" | "waiting" | "failed";
}

const STEPS: readonly (readonly [LoginStep["id"], LoginFact])[] = [
  ["key", "key"],
  ["authorize", "signed_in"],
  ["certificate", "enrolled"],
  ["connected", "online"],
];
// An agent that enrolls has its key, and somebody signed in.
const BEFORE_ENROLLING: ReadonlySet<LoginFact> = new Set(["key", "signed_in"]);
const NOTHING: ReadonlySet<LoginFact> = new Set();

/** Only what the agent told is done. Without a sign-in of this window the agent's own state says how far it is. */
export function loginSteps(login: Login | undefined, state: State | undefined): LoginStep[] {
  const done = login ? login.done : state === "enrolling" ? BEFORE_ENROLLING : NOTHING;
  const next = STEPS.findIndex(([, fact]) => !done.has(fact));
  const failed = login?.step === "failed";
  return STEPS.map(([id, fact], i) => ({
    id,
    state: done.has(fact) ? "done" : i > next ? "waiting" : failed ? "failed" : "now",
  }));
}
