// The whole window in jsdom over the agent in memory, for the component tests.

import { render } from "@testing-library/svelte";
import type { Desktop, DesktopEvent } from "$lib/agent/desktop";
import { memoryDesktop } from "$lib/agent/memory";
import type { Scenario } from "$lib/agent/memory/scenarios";
import { App } from "$lib/state/app.svelte";
import { tick } from "svelte";
import Window from "../Window.svelte";

export interface Opened {
  app: App;
  desktop: Desktop;
  /** What the agent or the shell pushes. */
  push: (event: DesktopEvent) => Promise<void>;
}

export async function open(scenario: Scenario, more: Record<string, string> = {}, change: Partial<Desktop> = {}): Promise<Opened> {
  const desktop = { ...memoryDesktop(new URLSearchParams({ scenario, language: "en", ...more })), ...change };
  const app = new App(desktop);
  render(Window, { app });
  await app.start();
  await tick();
  const push = async (event: DesktopEvent) => {
    app.heard(event);
    await tick();
  };
  return { app, desktop, push };
}

/** The marks that isolate a value from its sentence are invisible; expectations leave them out. */
export function seen(element: Element | null): string {
  return (element?.textContent ?? "").replace(/[\u2068\u2069]/g, "").replace(/\s+/g, " ").trim();
}
