// The one interface between the pages and the world: everything shown comes through it, everything asked goes through it.
//
// Two implementations: `tauri.ts` (the shell) and `memory.ts` (an agent in memory, for work on the pages and tests).

import type { Activity, AppName, Finding, LocalEvent, LoginEvent, Logs, Problem, Settings, SignedOut } from "./protocol";

/** `default`, or the slug of a further organisation's state directory. */
export type OrganisationId = string;

/** The views, in the order of the navigation. */
export type View = "home" | "session" | "device" | "activity" | "diagnostics" | "settings";

export interface Organisation {
  id: OrganisationId;
  label: string;
  state_dir: string;
  /** Of the per-user background service. */
  service: "installed" | "not_installed" | "unsupported";
}

export type Theme = "system" | "light" | "dark";
export type LanguageChoice = "system" | "en" | "de" | "ar";

export interface Preferences {
  theme: Theme;
  language: LanguageChoice;
  notifications: boolean;
  start_at_login: boolean;
  start_hidden: boolean;
  favourites: Record<OrganisationId, AppName[]>;
  selected: OrganisationId;
}

export interface SignInRequest {
  /** As typed; absent: that of the last sign-in. */
  address?: string;
  /** Prolong the living session instead of beginning one. */
  renew: boolean;
  /** Keep secrets in memory only if there is no usable keyring. */
  allow_memory_only: boolean;
}

/** What is pushed. The shell sends the whole present state first, then changes. */
export type DesktopEvent =
  | { kind: "organisations"; organisations: Organisation[] }
  | { kind: "agent"; organisation: OrganisationId; event: LocalEvent }
  /** No agent, or another user's: `agent_not_running`, `peer_refused`, `version_unsupported`, `state_dir`. */
  | { kind: "agent_gone"; organisation: OrganisationId; problem: Problem }
  /** A step of a sign-in that this window began. */
  | { kind: "login"; organisation: OrganisationId; event: LoginEvent }
  /** A finding of a running doctor. */
  | { kind: "finding"; organisation: OrganisationId; finding: Finding }
  | { kind: "preferences"; preferences: Preferences }
  /** Tray or notification asks for a view. */
  | { kind: "show"; view: View };

/** A refusal is thrown as a `Problem`. */
export interface Desktop {
  subscribe(listener: (event: DesktopEvent) => void): Promise<() => void>;
  startAgent(organisation: OrganisationId): Promise<void>;
  /** Installs the per-user service and starts it. */
  installAgent(organisation: OrganisationId): Promise<void>;
  uninstallAgent(organisation: OrganisationId): Promise<void>;
  /** Makes a state directory and starts its agent; signing in comes after. */
  addOrganisation(): Promise<OrganisationId>;
  /** Signs out, stops the agent, removes its state. */
  removeOrganisation(organisation: OrganisationId): Promise<void>;
  /** Begins; the steps come as events. */
  login(organisation: OrganisationId, request: SignInRequest): Promise<void>;
  /** Opens the page of the sign-in under way again. */
  reopenSignIn(organisation: OrganisationId): Promise<void>;
  cancelLogin(organisation: OrganisationId): Promise<void>;
  logout(organisation: OrganisationId): Promise<SignedOut>;
  /** Opens the app's local address, as the agent vouches for it. */
  openApp(organisation: OrganisationId, app: AppName): Promise<void>;
  activity(organisation: OrganisationId): Promise<Activity>;
  /** The findings also come as events while it runs. */
  doctor(organisation: OrganisationId): Promise<Finding[]>;
  logs(organisation: OrganisationId): Promise<Logs>;
  /** The path of the file it wrote. */
  saveBundle(organisation: OrganisationId): Promise<string>;
  agentSettings(organisation: OrganisationId): Promise<Settings>;
  setAgentSettings(organisation: OrganisationId, settings: Settings): Promise<Settings>;
  setPreferences(preferences: Preferences): Promise<Preferences>;
  copy(text: string): Promise<void>;
}
