// Each scenario of the agent in memory leads to the condition that its state is designed for.

import { expect, it } from "vitest";
import { memoryDesktop } from "$lib/agent/memory";
import { isScenario, type Scenario } from "$lib/agent/memory/scenarios";
import type { DesktopEvent } from "$lib/agent/desktop";
import * as data from "$lib/agent/memory/fixtures";
import { type Condition, condition } from "./condition";
import { EMPTY, EMPTY_AGENT, reduce } from "./model";

const NOW = Date.now();
const EXPECTED: Record<Exclude<Scenario, "hostile" | "held" | "long_names" | "many_apps" | "no_apps" | `doctor_${string}`>, Condition> = {
  first_run: "first_run",
  online: "online",
  no_agent: "no_agent",
  peer_refused: "peer_refused",
  agent_trouble: "agent_trouble",
  update_needed: "update_needed",
  signed_out: "signed_out",
  signing_in: "signing_in",
  cancelled: "cancelled",
  sign_in_failed: "sign_in_failed",
  enrolling: "enrolling",
  connecting: "connecting",
  degraded: "degraded",
  offline: "offline",
  captive_portal: "captive_portal",
  clock_wrong: "clock_wrong",
  expiring: "expiring",
  expired: "expired",
  revoked: "revoked",
  keyring_locked: "keyring_locked",
  keyring_unavailable: "keyring_unavailable",
};

it.each(Object.entries(EXPECTED))("%s is %s", async (scenario, expected) => {
  expect(isScenario(scenario)).toBe(true);
  const events: DesktopEvent[] = [];
  await memoryDesktop(new URLSearchParams({ scenario })).subscribe((event) => events.push(event));
  const model = events.reduce(reduce, EMPTY);
  expect(condition(model.agents["default"], NOW)).toBe(expected);
});

it("is loading until something was heard", () => {
  expect(condition(undefined, NOW)).toBe("loading");
  expect(condition(EMPTY_AGENT, NOW)).toBe("loading");
});

it("warns from ten minutes before the end, and not of a session that renews itself", () => {
  const status = data.online(NOW);
  const ending = (ends?: number) => ({ ...EMPTY_AGENT, status: { ...status, session: { id: "", ...(ends && { ends }) } } });
  expect(condition(ending(NOW + 10 * 60_000), NOW)).toBe("expiring");
  expect(condition(ending(NOW + 10 * 60_000 + 1), NOW)).toBe("online");
  expect(condition(ending(), NOW)).toBe("online");
});

it("stays with the apps while a renewal runs or fails in the background", () => {
  const agent = { ...EMPTY_AGENT, status: data.online(NOW) };
  const login = { renew: true, step: "failed", reached: "browser", problem: data.denial(1) } as const;
  expect(condition({ ...agent, login }, NOW)).toBe("online");
});
