// What to show of a problem: the policy author's words as they are, the agent's in the reader's language.

import type { Problem } from "$lib/agent/protocol";
import type { CodeTexts } from "./languages";

export interface ProblemText {
  title: string;
  /** The policy author's. */
  reason?: string;
  fix?: string;
}

// For these the fix is the policy author's, unless it is the code's own advice.
const AUTHORED: Partial<Record<Problem["code"], string>> = {
  policy_denied: "Ask the owner of the app for access.",
  step_up_required: "Sign in once more when you are asked to; what you opened then goes on.",
};

export function problemText(problem: Problem, codes: CodeTexts): ProblemText {
  const known = codes[problem.code];
  const own = AUTHORED[problem.code];
  const authored = problem.reason !== undefined || (own !== undefined && problem.fix !== own);
  const fix = authored ? (problem.fix ?? known?.fix) : (known?.fix ?? problem.fix);
  return {
    title: known?.title ?? problem.title,
    ...(problem.reason !== undefined && { reason: problem.reason }),
    ...(fix !== undefined && { fix }),
  };
}
