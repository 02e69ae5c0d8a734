// A sign-in as the list of steps that a person sees.

import type { State } from "$lib/agent/protocol";
import type { Login } from "./model";

export interface LoginStep {
  id: "authorize" | "key" | "certificate" | "connected";
  state: "done" | "now" | "waiting" | "failed";
}

const ORDER: readonly Login["reached"][] = ["starting", "browser", "signed_in", "enrolled", "online"];

/** Only what the agent told is done: the key is there before the sign-in that is bound to it. Without a sign-in of this window the
 * agent's own state says how far it is. */
export function loginSteps(login: Login | undefined, state: State | undefined): LoginStep[] {
  const reached = login?.reached ?? (state === "enrolling" ? "signed_in" : "starting");
  const past = (step: Login["reached"]) => ORDER.indexOf(reached) >= ORDER.indexOf(step);
  const done: [LoginStep["id"], boolean][] = [
    ["authorize", past("signed_in")],
    // Nobody signs in without a key.
    ["key", login?.storage !== undefined || past("signed_in")],
    ["certificate", past("enrolled")],
    ["connected", past("online")],
  ];
  const at = done.find(([, is]) => !is)?.[0];
  const now = login?.step === "failed" ? "failed" : "now";
  return done.map(([id, is]) => ({ id, state: is ? "done" : id === at ? now : "waiting" }));
}
