// The one interface between the pages and the world: everything shown comes through it, everything asked goes through it.
//
// Two implementations: `tauri.ts` (the shell) and `memory.ts` (an agent in memory, for work on the pages and tests).

import type { Activity, AppName, Finding, Logs, Settings, SignedOut } from "./protocol";
import type { DesktopEvent, LoginWish, OrganisationId, Preferences } from "./shell";

export type { DesktopEvent, LoginWish, Organisation, OrganisationId, Preferences, Theme, View } from "./shell";
/** A language, or that of the system. */
export type { Language as LanguageChoice } from "./shell";

/** A refusal is thrown as a `Problem`. */
export interface Desktop {
  subscribe(listener: (event: DesktopEvent) => void): Promise<() => void>;
  startAgent(organisation: OrganisationId): Promise<void>;
  /** Ends the agent that runs and starts the one that is installed: after an update these differ. */
  restartAgent(organisation: OrganisationId): Promise<void>;
  /** Installs the per-user service and starts it. */
  installAgent(organisation: OrganisationId): Promise<void>;
  uninstallAgent(organisation: OrganisationId): Promise<void>;
  /** Makes a state directory and starts its agent; signing in comes after. */
  addOrganisation(): Promise<OrganisationId>;
  /** Signs out, stops the agent, removes its state. */
  removeOrganisation(organisation: OrganisationId): Promise<void>;
  /** Begins; the steps come as events. */
  login(organisation: OrganisationId, request: LoginWish): Promise<void>;
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
