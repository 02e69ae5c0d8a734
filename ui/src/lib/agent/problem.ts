// Problems as thrown by a `Desktop`: recognised, or made up where something else was thrown.

import type { Code, Problem } from "./protocol";

export function problem(code: Code, title: string, more: Partial<Problem> = {}): Problem {
  return { type: `urn:postern:error:${code}`, code, title, status: 500, ...more };
}

/** What was thrown, as a problem. Anything else than a problem is a mistake of ours, and told as one. */
export function asProblem(thrown: unknown): Problem {
  if (isProblem(thrown)) return thrown;
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  return problem("internal", "Something went wrong inside Postern", { detail });
}

function isProblem(thrown: unknown): thrown is Problem {
  return typeof thrown === "object" && thrown !== null && "code" in thrown && "title" in thrown;
}
