// The small pure parts: path, search, login steps, posture, address, ports, keys, clock.

import { describe, expect, it } from "vitest";
import * as data from "$lib/agent/memory/fixtures";
import { problem } from "$lib/agent/problem";
import { addressMistake } from "./address";
import { pause } from "./clock.svelte";
import { EVERYTHING, findActivity, findApps } from "./find";
import { isSearchKey, viewOfKey } from "./keys";
import { loginSteps } from "./login";
import { EMPTY_AGENT } from "./model";
import { stations } from "./path";
import { portOf } from "./ports";
import { postureChecks } from "./posture";

const NOW = Date.UTC(2026, 10, 23, 12);

describe("the path", () => {
  const agent = { ...EMPTY_AGENT, status: data.online(NOW) };

  it("is verified from end to end while online", () => {
    expect(stations(agent, NOW).map((each) => each.verified)).toEqual([true, true, true, true]);
  });

  it("breaks at the relay while offline, not before", () => {
    const offline = { ...agent, status: { ...agent.status, state: "offline" as const } };
    expect(stations(offline, NOW).map((each) => each.verified)).toEqual([true, true, false, false]);
  });

  it("does not call an ended certificate or session verified", () => {
    const late = NOW + 48 * data.HOUR;
    expect(stations(agent, late).slice(0, 2).map((each) => each.verified)).toEqual([false, false]);
  });

  it("calls nobody signed in once the session is over, whatever its last end said", () => {
    const expired = { ...agent, status: { ...agent.status, state: "expired" as const } };
    expect(stations(expired, NOW)[0]?.verified).toBe(false);
  });

  it("breaks at an app that was denied last, until it works again", () => {
    const traffic = { vault: { app: "vault", streams: 0, last_used: NOW } };
    const shut = { ...data.webApp("vault", ""), allowed: false };
    const last = (more: object) => ({ ...agent, traffic, activity: [{ ...data.activity(NOW, 1)[0], number: 1, at: NOW, app: "vault", kind: "request" as const, ...more }] });
    const fact = (of: typeof agent) => stations(of, NOW)[3]?.fact;
    expect(fact({ ...agent, traffic, apps: [shut] })).toBe("app.denied");
    expect(fact(last({ problem: problem("policy_denied", "No") }))).toBe("app.denied");
    expect(fact(last({ problem: undefined }))).toBe("app.verified");
    expect(fact({ ...agent, traffic: { vault: { app: "vault", streams: 1 } }, apps: [shut] })).toBe("app.verified");
  });

  it("names the app with most live streams", () => {
    const traffic = { wiki: { app: "wiki", streams: 1 }, build: { app: "build", streams: 4 } };
    expect(stations({ ...agent, traffic }, NOW)[3]?.name).toBe("build");
  });
});

describe("search", () => {
  it("wants each word somewhere, and puts names that begin so first", () => {
    const apps = [data.webApp("intranet-wiki", "old"), data.webApp("wiki", "what we know")];
    expect(findApps(apps, "WIKI").map((each) => each.name)).toEqual(["wiki", "intranet-wiki"]);
    expect(findApps(apps, "wiki know").map((each) => each.name)).toEqual(["wiki"]);
    expect(findApps(apps, "  ")).toBe(apps);
  });

  it("filters activity by outcome, app and text, all at once", () => {
    const all = data.activity(NOW, 60);
    expect(findActivity(all, EVERYTHING)).toHaveLength(60);
    const denied = findActivity(all, { ...EVERYTHING, outcome: "denied" });
    expect(denied.length).toBeGreaterThan(0);
    expect(denied.every((entry) => entry.problem && entry.kind !== "cut")).toBe(true);
    expect(findActivity(all, { outcome: "cut", app: "wiki", text: "" })).toEqual([]);
    const id = denied[0]?.decision ?? "";
    expect(findActivity(all, { ...EVERYTHING, text: id })).toEqual([denied[0]]);
  });
});

describe("a sign-in's steps", () => {
  it("marks as done only what was told", () => {
    const steps = loginSteps({ renew: false, step: "signed_in", reached: "signed_in", storage: "tpm" }, undefined);
    expect(steps.map((each) => each.state)).toEqual(["done", "done", "now", "waiting"]);
  });

  it("tells of no sign-in that was not done, though the key is there", () => {
    const steps = loginSteps({ renew: false, step: "failed", reached: "starting", storage: "tpm" }, undefined);
    expect(steps.map((each) => each.state)).toEqual(["failed", "done", "waiting", "waiting"]);
  });

  it("marks the step that failed", () => {
    const steps = loginSteps({ renew: false, step: "failed", reached: "signed_in" }, undefined);
    expect(steps.map((each) => each.state)).toEqual(["done", "done", "failed", "waiting"]);
  });
});

it("puts what fails first, and does not take unknown for well", () => {
  const posture = data.online(NOW).posture;
  if (!posture) throw new Error("the fixture has a posture");
  expect(postureChecks(posture, undefined).map((each) => `${each.id} ${each.result}`)).toEqual(["firewall failed", "lock unknown", "disk ok", "key ok"]);
});

it.each([
  ["", "missing"],
  ["relay.example.org", undefined],
  ["relay.example.org:8443", undefined],
  ["https://relay.example.org/", undefined],
  ["localhost:8443", undefined],
  ["http://relay.example.org", "invalid"],
  ["javascript:alert(1)", "invalid"],
  ["https://user:secret@relay.example.org", "invalid"],
  ["relay", "invalid"],
  ["two words.org", "invalid"],
])("the address %j is %s", (typed, expected) => expect(addressMistake(typed)).toBe(expected));

it.each([
  ["0", 0],
  ["7080", 7080],
  ["65535", 65535],
  ["65536", undefined],
  ["80", undefined],
  ["-1", undefined],
  ["1e4", undefined],
  ["", 0],
])("the port %j is %s", (typed, expected) => expect(portOf(typed)).toBe(expected));

describe("keys", () => {
  it("shows the views by Ctrl+1 to Ctrl+6", () => {
    expect(viewOfKey(new KeyboardEvent("keydown", { key: "1", ctrlKey: true }))).toBe("home");
    expect(viewOfKey(new KeyboardEvent("keydown", { key: "6", metaKey: true }))).toBe("settings");
    expect(viewOfKey(new KeyboardEvent("keydown", { key: "7", ctrlKey: true }))).toBeUndefined();
    expect(viewOfKey(new KeyboardEvent("keydown", { key: "1" }))).toBeUndefined();
  });

  it("leaves a slash alone that is being typed", () => {
    const input = document.body.appendChild(document.createElement("input"));
    let taken: boolean | undefined;
    input.addEventListener("keydown", (event) => (taken = isSearchKey(event)));
    input.dispatchEvent(new KeyboardEvent("keydown", { key: "/" }));
    expect(taken).toBe(false);
    expect(isSearchKey(new KeyboardEvent("keydown", { key: "/" }))).toBe(true);
  });
});

describe("the clock", () => {
  it("moves once a minute, and once a second only in the last two", () => {
    expect(pause(NOW, [])).toBe(60_000);
    expect(pause(NOW, [NOW + 90_000])).toBe(1000);
    expect(pause(NOW, [NOW + 150_000])).toBe(30_000);
    expect(pause(NOW, [NOW - 1])).toBe(60_000);
  });
});
