// What the pages know, and how each event changes it. Pure: same model, same event, same result.
//
// Parts that an event does not touch keep their identity, so that views depending on them are not drawn again.

import type { Desktop, DesktopEvent, Organisation, OrganisationId, Preferences, View } from "$lib/agent/desktop";
import type {
  ActivityEntry,
  AppName,
  AppTraffic,
  Finding,
  LocalApp,
  LocalEvent,
  LoginEvent,
  Problem,
  SignedOut,
  Status,
  Timestamp,
} from "$lib/agent/protocol";

/** As many as the agent keeps. */
export const MOST_ACTIVITY = 500;

export interface Model {
  organisations: readonly Organisation[];
  preferences: Preferences;
  view: View;
  agents: Readonly<Record<OrganisationId, AgentModel>>;
}

/** One organisation's agent, as it was last heard. */
export interface AgentModel {
  status?: Status;
  /** Instead of a status: why there is none. */
  gone?: Problem;
  apps: readonly LocalApp[];
  /** Have the apps been told at all? Before that, an empty list means nothing. */
  appsKnown: boolean;
  traffic: Readonly<Record<AppName, AppTraffic>>;
  /** Live streams that wait for a word from the relay, by app. */
  held: Readonly<Record<AppName, Held>>;
  /** The newest first. */
  activity: readonly ActivityEntry[];
  login?: Login;
  findings: readonly Finding[];
  /** Who could not be told of the last sign-out. */
  signedOut?: SignedOut;
}

export interface Held {
  problem: Problem;
  until: Timestamp;
}

/** A sign-in that this window began. */
export interface Login {
  renew: boolean;
  step: "starting" | "browser" | "signed_in" | "enrolled" | "online" | "failed";
  /** The furthest step that went well: where a failed sign-in stopped. */
  reached: "starting" | "browser" | "signed_in" | "enrolled" | "online";
  /** Where the device key is, once there is one: before the browser is opened. */
  storage?: string;
  /** The page to sign in at. */
  page?: string;
  /** Why no browser shows it. */
  unopened?: Problem;
  code?: { user_code: string; verification_uri: string };
  problem?: Problem;
}

/** What this window itself did or learnt by asking. */
export type LocalAction =
  | { kind: "view"; view: View }
  | { kind: "login_begun"; organisation: OrganisationId; renew: boolean }
  | { kind: "login_failed"; organisation: OrganisationId; problem: Problem }
  | { kind: "login_dismissed"; organisation: OrganisationId }
  | { kind: "activity_loaded"; organisation: OrganisationId; entries: readonly ActivityEntry[] }
  | { kind: "doctor_begun"; organisation: OrganisationId }
  | { kind: "signed_out"; organisation: OrganisationId; result: SignedOut };

export type Action = DesktopEvent | LocalAction;

export const NO_PREFERENCES: Preferences = {
  theme: "system",
  language: "system",
  notifications: true,
  start_at_login: false,
  start_hidden: false,
  favourites: {},
  selected: "default",
};

export const EMPTY: Model = { organisations: [], preferences: NO_PREFERENCES, view: "home", agents: {} };

export const EMPTY_AGENT: AgentModel = {
  apps: [],
  appsKnown: false,
  traffic: {},
  held: {},
  activity: [],
  findings: [],
};

export function reduce(model: Model, action: Action): Model {
  switch (action.kind) {
    case "organisations":
      return { ...model, organisations: action.organisations, agents: only(model.agents, action.organisations) };
    case "preferences":
      return { ...model, preferences: action.preferences };
    case "show":
    case "view":
      return { ...model, view: action.view };
    default:
      return change(model, action.organisation, (agent) => reduceAgent(agent, action));
  }
}

type AgentAction = Extract<Action, { organisation: OrganisationId }>;

function reduceAgent(agent: AgentModel, action: AgentAction): AgentModel {
  switch (action.kind) {
    case "agent":
      return heard(agent, action.event);
    case "agent_gone":
      // Nothing it said holds any more. What was found and what is being tried stays to be read.
      return { ...EMPTY_AGENT, ...kept(agent), gone: action.problem };
    case "login_begun":
      return { ...without(agent, "signedOut"), login: { renew: action.renew, step: "starting", reached: "starting" } };
    case "login":
      return { ...agent, login: step(agent.login, action.event) };
    case "not_opened":
      return agent.login ? { ...agent, login: { ...agent.login, unopened: action.problem } } : agent;
    case "login_failed":
      // Its agent may have ended meanwhile, and the sign-in with it.
      return agent.login ? { ...agent, login: step(agent.login, { step: "failed", problem: action.problem }) } : agent;
    case "login_dismissed":
      return without(agent, "login");
    case "finding":
      return { ...agent, findings: [...agent.findings.filter((f) => f.check !== action.finding.check), action.finding] };
    case "doctor_begun":
      return { ...agent, findings: [] };
    case "activity_loaded":
      return { ...agent, activity: merged(agent.activity, action.entries) };
    case "signed_out":
      return { ...agent, signedOut: action.result };
  }
}

function heard(agent: AgentModel, event: LocalEvent): AgentModel {
  switch (event.event) {
    case "status": {
      const now = { ...without(over(agent, event.status) ? without(agent, "login") : agent, "gone"), status: event.status };
      return event.status.state === "signed_out" ? { ...now, traffic: {}, held: {} } : now;
    }
    case "apps":
      return { ...agent, apps: [...new Map(event.apps.map((each) => [each.name, each])).values()], appsKnown: true };
    case "traffic":
      return { ...agent, traffic: { ...agent.traffic, ...byApp(event.apps) } };
    case "held":
      return { ...agent, held: { ...agent.held, [event.app]: { problem: event.problem, until: event.until } } };
    case "resumed":
      return { ...agent, held: released(agent.held, event.app) };
    case "denied":
      // A cut ends the wait. The entry itself comes as activity; this one event only calls for attention.
      return event.kind === "cut" ? { ...agent, held: released(agent.held, event.app) } : agent;
    case "activity":
      return { ...agent, activity: merged(agent.activity, event.entries) };
  }
}

/** The login after one more step. A step of a sign-in that was begun elsewhere counts too. */
function step(login: Login | undefined, event: LoginEvent): Login {
  const before: Login = login ?? { renew: false, step: "starting", reached: "starting" };
  switch (event.step) {
    case "authorize":
      return { ...before, step: "browser", reached: "browser", page: event.url };
    case "device_code": {
      const code = { user_code: event.user_code, verification_uri: event.verification_uri };
      return { ...before, step: "browser", reached: "browser", code };
    }
    case "key_ready":
      return { ...before, storage: event.storage };
    case "signed_in":
    case "enrolled":
    case "online":
      return { ...before, step: event.step, reached: event.step };
    case "failed":
      return { ...before, step: "failed", problem: event.problem };
  }
}

/** Both lists as one: the newest first, each entry once (its later form counts), no more than the agent keeps. */
export function merged(old: readonly ActivityEntry[], more: readonly ActivityEntry[]): readonly ActivityEntry[] {
  const all = new Map<number, ActivityEntry>();
  for (const entry of old) all.set(entry.number, entry);
  for (const entry of more) all.set(entry.number, entry);
  return [...all.values()].sort((a, b) => b.number - a.number).slice(0, MOST_ACTIVITY);
}

/** What was put under this name, and nothing that every object has: an app may be called `constructor`. */
export function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

function change(model: Model, id: OrganisationId, by: (agent: AgentModel) => AgentModel): Model {
  const before = own(model.agents, id) ?? EMPTY_AGENT;
  const after = by(before);
  return after === before ? model : { ...model, agents: { ...model.agents, [id]: after } };
}

function only(agents: Model["agents"], organisations: readonly Organisation[]): Model["agents"] {
  const known = new Set(organisations.map((organisation) => organisation.id));
  return Object.fromEntries(Object.entries(agents).filter(([id]) => known.has(id)));
}

function kept(agent: AgentModel): Partial<AgentModel> {
  // What was under way ended with the agent; why a sign-in failed stays to be read.
  const failed = agent.login?.step === "failed";
  return { findings: agent.findings, ...(agent.login && failed && { login: agent.login }) };
}

/** Has the agent come through although a sign-in of this window failed or was given up? It goes on trying, and others sign in too. */
function over(agent: AgentModel, status: Status): boolean {
  const { login } = agent;
  return login !== undefined && !login.renew && login.step === "failed" && ["online", "connecting", "offline"].includes(status.state);
}

function released(held: AgentModel["held"], app: AppName): AgentModel["held"] {
  return Object.fromEntries(Object.entries(held).filter(([name]) => name !== app));
}

function byApp(traffic: readonly AppTraffic[]): Record<AppName, AppTraffic> {
  return Object.fromEntries(traffic.map((each) => [each.app, each]));
}

/** The same agent without one of the parts that it need not have. */
function without(agent: AgentModel, key: "login" | "gone" | "signedOut"): AgentModel {
  const rest = { ...agent };
  delete rest[key];
  return rest;
}

/** What `Desktop.subscribe` calls. */
export type Listener = Parameters<Desktop["subscribe"]>[0];
