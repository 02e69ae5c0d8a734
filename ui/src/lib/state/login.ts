// A sign-in as the list of steps that a person sees.

import type { State } from "$lib/agent/protocol";
import type { Login } from "./model";

export interface LoginStep {
  id: "authorize" | "key" | "certificate" | "connected";
  state: "done" | "now" | "waiting" | "failed";
}

const STEPS: readonly LoginStep["id"][] = ["authorize", "key", "certificate", "connected"];
// How many steps are behind one who reached this.
const BEHIND: Record<Login["reached"], number> = { starting: 0, browser: 0, signed_in: 1, key_ready: 2, enrolled: 3, online: 4 };

/** Only what the agent told is done. Without a sign-in of this window the agent's own state says how far it is. */
export function loginSteps(login: Login | undefined, state: State | undefined): LoginStep[] {
  const behind = login ? BEHIND[login.reached] : state === "enrolling" ? 1 : 0;
  const failed = login?.step === "failed";
  return STEPS.map((id, i) => ({
    id,
    state: i < behind ? "done" : i > behind ? "waiting" : failed ? "failed" : "now",
  }));
}
