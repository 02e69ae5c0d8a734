// What to show of doctor's findings. The agent's sentences are English; another language tells the same by check,
// result and code, and keeps the agent's words, with their addresses and times, for whoever helps.

import type { Check, Finding } from "$lib/agent/protocol";
import type { CodeTexts } from "./languages";

/** What the code alone does not say. */
export type Special = "certificate_late" | "session_ending" | "portal_perhaps" | "quic_silent";

export interface FindingTexts {
  ok: Record<Check, string>;
  skipped: Record<Check, string>;
  special: Record<Special, { title: string; fix: string }>;
}

export interface FindingText {
  summary: string;
  fix?: string;
  /** The agent's own words, in English, where `summary` is not them. */
  words?: string;
}

export function findingText(finding: Finding, texts: FindingTexts | undefined, codes: CodeTexts): FindingText {
  const { check, result, code, summary } = finding;
  const special = specialOf(finding);
  if (!texts) {
    const fix = special ? withoutCommand(finding.fix) : ((code && codes[code]?.fix) ?? finding.fix);
    return { summary, ...(fix !== undefined && { fix }) };
  }
  if (result === "ok" || result === "skipped") return { summary: texts[result][check], words: summary };
  const told = (special && texts.special[special]) ?? (code && codes[code]);
  if (told) return { summary: told.title, fix: told.fix, words: summary };
  return { summary, ...(finding.fix !== undefined && { fix: finding.fix }) };
}

function specialOf({ check, result, code }: Finding): Special | undefined {
  if (check === "relay_quic" && code === "relay_unreachable") return "quic_silent";
  if (result !== "warning") return undefined;
  if (check === "certificate" && code === "certificate_expired") return "certificate_late";
  if (check === "session" && code === "token_expired") return "session_ending";
  if (check === "captive_portal" && code === "captive_portal") return "portal_perhaps";
  return undefined;
}

/** The session's advice ends in the command to type; here there is a button. */
function withoutCommand(fix: string | undefined): string | undefined {
  return fix?.replace(/: postern login$/, ".");
}
