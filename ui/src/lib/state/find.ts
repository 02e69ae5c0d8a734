// Which apps and which activity are looked for.

import type { ActivityEntry, AppName, LocalApp } from "$lib/agent/protocol";

/** Each word of the search is somewhere in name or description; apps whose name begins so come first. */
export function findApps(apps: readonly LocalApp[], text: string): readonly LocalApp[] {
  const words = text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const first = words[0];
  if (first === undefined) return apps;
  const found = apps.filter((app) => {
    const hay = `${app.name} ${app.description}`.toLocaleLowerCase();
    return words.every((word) => hay.includes(word));
  });
  return found.sort((a, b) => Number(b.name.startsWith(first)) - Number(a.name.startsWith(first)));
}

export type Outcome = "all" | "denied" | "cut";

export interface ActivityFilter {
  outcome: Outcome;
  /** Empty: all. */
  app: AppName | "";
  text: string;
}

export const EVERYTHING: ActivityFilter = { outcome: "all", app: "", text: "" };

export function outcomeOf(entry: ActivityEntry): "allowed" | "denied" | "cut" | "held" {
  if (entry.kind === "cut" || entry.kind === "held") return entry.kind;
  return entry.problem ? "denied" : "allowed";
}

export function findActivity(entries: readonly ActivityEntry[], filter: ActivityFilter): readonly ActivityEntry[] {
  const text = filter.text.trim().toLocaleLowerCase();
  return entries.filter((entry) => {
    if (filter.app !== "" && entry.app !== filter.app) return false;
    if (filter.outcome !== "all" && outcomeOf(entry) !== filter.outcome) return false;
    return text === "" || hay(entry).includes(text);
  });
}

function hay({ app, method, path, decision, problem }: ActivityEntry): string {
  const words = [app, method, path, decision, problem?.code, problem?.title, problem?.reason];
  return words.filter(Boolean).join(" ").toLocaleLowerCase();
}
