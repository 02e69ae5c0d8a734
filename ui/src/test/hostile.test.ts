// What a broken or hostile agent or relay may say: the window goes on telling the truth, and stays usable.

import { screen } from "@testing-library/svelte";
import { expect, it } from "vitest";
import * as data from "$lib/agent/memory/fixtures";
import { problem } from "$lib/agent/problem";
import type { LocalEvent } from "$lib/agent/protocol";
import { open } from "./window";

const FOREVER = 2 ** 64;
const agent = (event: LocalEvent) => ({ kind: "agent", organisation: "default", event }) as const;
const cards = () => screen.getAllByRole("article").map((card) => card.getAttribute("aria-label"));

it("an app may be called as what every object has", async () => {
  const { push } = await open("online");
  await push(agent({ event: "apps", apps: [data.webApp("constructor", "builds"), data.webApp("wiki", "pages")] }));
  expect(cards().sort()).toEqual(["constructor", "wiki"]);
  expect(screen.queryByText("On hold")).toBeNull();
});

it("an app that is told twice stands there once", async () => {
  const { push } = await open("online");
  await push(agent({ event: "apps", apps: [data.webApp("wiki", "old"), data.webApp("wiki", "new")] }));
  expect(cards()).toEqual(["wiki"]);
});

it.each(["home", "session", "device", "activity"] as const)("times without end are told as the last there is: %s", async (view) => {
  const { app, push } = await open("online");
  const status = data.online(Date.now());
  const session = { ...status.session, signed_in: FOREVER, token_expires: FOREVER, ends: FOREVER };
  const device = { ...status.device, name: "far", certificate_expires: FOREVER };
  app.show(view);
  await push(agent({ event: "status", status: { ...status, session, device } as typeof status }));
  await push(agent({ event: "held", app: "wiki", problem: problem("posture_stale", "Old"), until: FOREVER }));
  const [entry] = data.activity(Date.now(), 1);
  if (entry) await push(agent({ event: "activity", entries: [{ ...entry, number: 1e6, at: FOREVER }] }));
  expect(screen.getByRole("main").textContent).toContain("275760");
  app.show("settings");
  expect(await screen.findByRole("heading", { level: 1, name: "Settings" })).toBeTruthy();
});
