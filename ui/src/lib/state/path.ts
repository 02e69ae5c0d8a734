// The way to the apps as four stations, each with what was verified of it. Only what the agent told; nothing is guessed.

import type { Timestamp } from "$lib/agent/protocol";
import { outcomeOf } from "./find";
import type { AgentModel } from "./model";

export interface Station {
  id: "you" | "device" | "relay" | "app";
  verified: boolean;
  /** Its name, from elsewhere. */
  name?: string;
  /** The text that says what was verified, or what is missing. */
  fact:
    | "you.verified"
    | "you.none"
    | "device.verified"
    | "device.none"
    | "relay.quic"
    | "relay.tcp"
    | "relay.none"
    | "app.verified"
    | "app.denied"
    | "app.none";
  issuer?: string;
  until?: Timestamp | "renews";
}

export function stations(agent: AgentModel, now: Timestamp): Station[] {
  const status = agent.status;
  const connected = status?.state === "online";
  return [you(agent, now), device(agent, now), relay(agent, connected), app(agent, connected)];
}

function you({ status }: AgentModel, now: Timestamp): Station {
  const { principal, session } = status ?? {};
  const over = status?.state === "signed_out" || status?.state === "expired" || status?.state === "revoked";
  const verified = !over && session !== undefined && (session.ends === undefined || session.ends > now);
  const name = principal?.name ?? principal?.email ?? principal?.subject;
  if (!verified || !principal) return { id: "you", verified: false, fact: "you.none", ...(name !== undefined && { name }) };
  return {
    id: "you",
    verified,
    fact: "you.verified",
    issuer: host(principal.issuer),
    until: session.ends ?? "renews",
    ...(name !== undefined && { name }),
  };
}

function device({ status }: AgentModel, now: Timestamp): Station {
  const told = status?.device;
  const until = told?.certificate_expires;
  const named = told ? { name: told.name } : {};
  if (until === undefined || until <= now) return { id: "device", verified: false, fact: "device.none", ...named };
  return { id: "device", verified: true, fact: "device.verified", until, ...named };
}

function relay({ status }: AgentModel, connected: boolean): Station {
  const named = status?.relay === undefined ? {} : { name: relayName(status.relay) };
  if (!connected) return { id: "relay", verified: false, fact: "relay.none", ...named };
  const until = status?.session?.token_expires;
  return {
    id: "relay",
    verified: true,
    fact: status?.carrier === "tcp" ? "relay.tcp" : "relay.quic",
    ...(until !== undefined && { until }),
    ...named,
  };
}

/** The app in use, or the one used last: where the traffic goes. */
function app({ traffic, apps, activity }: AgentModel, connected: boolean): Station {
  const used = Object.values(traffic).sort((a, b) => b.streams - a.streams || (b.last_used ?? 0) - (a.last_used ?? 0))[0];
  const named = used ? { name: used.app } : {};
  if (!connected) return { id: "app", verified: false, fact: "app.none", ...named };
  const last = activity.find((entry) => entry.app === used?.app);
  const shut = apps.some((each) => each.name === used?.app && !each.allowed) || (last !== undefined && outcomeOf(last) !== "allowed");
  const denied = used !== undefined && used.streams === 0 && shut;
  return { id: "app", verified: !denied, fact: denied ? "app.denied" : "app.verified", ...named };
}

/** A relay as people type it: its host and port. */
export function relayName(relay: string): string {
  return host(relay);
}

/** The provider's host is what a person knows it by. */
function host(issuer: string): string {
  return (URL.canParse(issuer) && new URL(issuer).host) || issuer;
}
