// The reducer: each event changes what it should, and nothing else.

import { describe, expect, it } from "vitest";
import type { DesktopEvent } from "$lib/agent/desktop";
import * as data from "$lib/agent/memory/fixtures";
import { problem } from "$lib/agent/problem";
import type { LocalEvent, LoginEvent } from "$lib/agent/protocol";
import { type Action, type AgentModel, EMPTY, EMPTY_AGENT, merged, type Model, MOST_ACTIVITY, reduce } from "./model";

const NOW = Date.UTC(2026, 10, 23, 12);
const said = (event: LocalEvent): DesktopEvent => ({ kind: "agent", organisation: "default", event });
const step = (event: LoginEvent): DesktopEvent => ({ kind: "login", organisation: "default", event });
const after = (...actions: Action[]): Model => actions.reduce(reduce, EMPTY);
const agent = (...actions: Action[]): AgentModel => after(...actions).agents["default"] ?? EMPTY_AGENT;

const ONLINE = said({ event: "status", status: data.online(NOW) });
const HELD = said({ event: "held", app: "bastion", problem: data.denial(1), until: NOW });

describe("what the agent says", () => {
  it("replaces status and apps as wholes", () => {
    const model = agent(ONLINE, said({ event: "apps", apps: data.apps() }));
    expect(model.status?.state).toBe("online");
    expect(model.apps).toHaveLength(12);
    expect(model.appsKnown).toBe(true);
  });

  it("keeps the traffic of apps that it does not mention", () => {
    const model = agent(
      said({ event: "traffic", apps: [{ app: "wiki", streams: 3 }, { app: "build", streams: 1 }] }),
      said({ event: "traffic", apps: [{ app: "wiki", streams: 0 }] }),
    );
    expect(model.traffic["wiki"]?.streams).toBe(0);
    expect(model.traffic["build"]?.streams).toBe(1);
  });

  it("leaves the identity of what it does not touch", () => {
    const before = after(ONLINE, said({ event: "apps", apps: data.apps() }));
    const later = reduce(before, said({ event: "traffic", apps: data.traffic(NOW) }));
    expect(later.agents["default"]?.apps).toBe(before.agents["default"]?.apps);
    expect(later.preferences).toBe(before.preferences);
  });

  it("ends a wait by going on, by a cut, and by a sign-out", () => {
    expect(agent(HELD).held["bastion"]?.until).toBe(NOW);
    expect(agent(HELD, said({ event: "resumed", app: "bastion" })).held).toEqual({});
    const cut: LocalEvent = { event: "denied", app: "bastion", problem: data.denial(1), at: NOW, kind: "cut" };
    expect(agent(HELD, said(cut)).held).toEqual({});
    expect(agent(HELD, said({ event: "status", status: data.signedOut() })).held).toEqual({});
    expect(agent(HELD, said({ ...cut, kind: "request" })).held).not.toEqual({});
  });

  it("forgets everything when the agent is gone, and the reason when it is back", () => {
    const gone: DesktopEvent = { kind: "agent_gone", organisation: "default", problem: problem("agent_not_running", "x") };
    const model = agent(ONLINE, said({ event: "apps", apps: data.apps() }), gone);
    expect(model.status).toBeUndefined();
    expect(model.apps).toEqual([]);
    expect(model.gone?.code).toBe("agent_not_running");
    expect(agent(gone, ONLINE).gone).toBeUndefined();
  });
});

describe("activity", () => {
  it("has the newest first, each entry once, the later form counting", () => {
    const [one, two] = [data.entry(NOW, 1), data.entry(NOW, 2)];
    const all = merged([one], [two, { ...one, status: 500 }]);
    expect(all.map((each) => each.number)).toEqual([2, 1]);
    expect(all[1]?.status).toBe(500);
  });

  it("keeps no more than the agent does", () => {
    const all = merged(data.activity(NOW, MOST_ACTIVITY), [data.entry(NOW, 9999)]);
    expect(all).toHaveLength(MOST_ACTIVITY);
    expect(all[0]?.number).toBe(9999);
  });
});

describe("a sign-in", () => {
  const begun: Action = { kind: "login_begun", organisation: "default", renew: false };

  it("reaches step after step, and remembers where the key is", () => {
    const model = agent(begun, step({ step: "key_ready", storage: "tpm" }), step({ step: "authorize", url: "https://x" }), step({ step: "signed_in" }));
    expect(model.login).toMatchObject({ step: "signed_in", reached: "signed_in", storage: "tpm", renew: false });
  });

  it("is over once the agent comes through after all, and not before", () => {
    const failed = step({ step: "failed", problem: data.denial(1) });
    const status = (state: "connecting" | "signed_out"): Action => ({
      kind: "agent",
      organisation: "default",
      event: { event: "status", status: { ...data.signedOut(), state } },
    });
    expect(agent(begun, failed, status("signed_out")).login?.step).toBe("failed");
    expect(agent(begun, failed, status("connecting")).login).toBeUndefined();
  });

  it("ends with its agent", () => {
    const gone: Action = { kind: "agent_gone", organisation: "default", problem: data.denial(1) };
    expect(agent(begun, step({ step: "authorize", url: "https://x" }), gone).login).toBeUndefined();
    expect(agent(begun, step({ step: "failed", problem: data.denial(1) }), gone).login?.step).toBe("failed");
    const late: Action = { kind: "login_failed", organisation: "default", problem: data.denial(1) };
    expect(agent(begun, gone, late).login).toBeUndefined();
  });

  it("remembers how far it came when it fails", () => {
    const model = agent(begun, step({ step: "signed_in" }), step({ step: "failed", problem: data.denial(1) }));
    expect(model.login).toMatchObject({ step: "failed", reached: "signed_in" });
    expect(model.login?.problem?.code).toBe("policy_denied");
  });

  it("keeps being a renewal through its steps", () => {
    const model = agent({ ...begun, renew: true }, step({ step: "authorize", url: "https://x" }));
    expect(model.login?.renew).toBe(true);
  });

  it("clears what was left to say of the last sign-out", () => {
    const result = { ...data.signedOut(), untold: [] };
    expect(agent({ kind: "signed_out", organisation: "default", result }, begun).signedOut).toBeUndefined();
  });
});

it("drops what it knew of organisations that are gone", () => {
  const other: DesktopEvent = { kind: "agent", organisation: "other", event: { event: "status", status: data.signedOut() } };
  const model = after(ONLINE, other, { kind: "organisations", organisations: [data.ORGANISATION] });
  expect(Object.keys(model.agents)).toEqual(["default"]);
});

it("replaces findings by check, and begins anew with each run", () => {
  const found = (result: "ok" | "failed"): DesktopEvent => ({
    kind: "finding",
    organisation: "default",
    finding: { check: "clock", result, summary: "", took_ms: 1 },
  });
  expect(agent(found("ok"), found("failed")).findings).toMatchObject([{ result: "failed" }]);
  expect(agent(found("ok"), { kind: "doctor_begun", organisation: "default" }).findings).toEqual([]);
});
