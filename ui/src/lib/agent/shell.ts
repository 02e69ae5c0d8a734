// Generated from src-tauri/src by its tests: do not edit.
// Again: POSTERN_BLESS=1 cargo test -p postern-desktop
import type { AppName, Finding, LocalEvent, LoginEvent, Problem } from './protocol';

/**
 * Names an organisation between shell and pages: `default`, or the name of a further one's directory. Lower-case letters,
 * digits and hyphens, so that it never leads out of its place.
 */
export type OrganisationId = string;

/**
 * What the pages are told, through the one channel that `subscribe` opens: first all that is known, then what changes.
 */
export type DesktopEvent = { "kind": "organisations", 
/**
 * All of them.
 */
organisations: Array<Organisation>, } | { "kind": "agent", 
/**
 * Whose agent.
 */
organisation: OrganisationId, 
/**
 * As it came.
 */
event: LocalEvent, } | { "kind": "agent_gone", 
/**
 * Whose agent.
 */
organisation: OrganisationId, 
/**
 * Why.
 */
problem: Problem, } | { "kind": "login", 
/**
 * Where.
 */
organisation: OrganisationId, 
/**
 * The step.
 */
event: LoginEvent, } | { "kind": "not_opened", 
/**
 * Where.
 */
organisation: OrganisationId, 
/**
 * Why.
 */
problem: Problem, } | { "kind": "finding", 
/**
 * Where.
 */
organisation: OrganisationId, 
/**
 * What was found.
 */
finding: Finding, } | { "kind": "preferences", 
/**
 * All of it.
 */
preferences: Preferences, } | { "kind": "show", 
/**
 * Which.
 */
view: View, };

/**
 * The views of the window.
 */
export type View = "home" | "session" | "device" | "activity" | "diagnostics" | "settings";

/**
 * An organisation: one agent with a state directory of its own.
 */
export type Organisation = { 
/**
 * Its name between shell and pages.
 */
id: OrganisationId, 
/**
 * As the relay calls it, once known; else empty.
 */
label: string, 
/**
 * Its agent's state directory.
 */
state_dir: string, 
/**
 * Does its agent start with the person's login?
 */
service: Service, };

/**
 * Whether an agent is a background service of the person's.
 */
export type Service = "installed" | "not_installed" | "unsupported";

/**
 * What the person prefers; kept in the desktop's configuration directory.
 */
export type Preferences = { 
/**
 * The window's colours.
 */
theme: Theme, 
/**
 * The language of the texts.
 */
language: Language, 
/**
 * Are denials, expiry and disconnection told while the window is not looked at?
 */
notifications: boolean, 
/**
 * Does the desktop start with the person's login?
 */
start_at_login: boolean, 
/**
 * Does it then start in the tray alone?
 */
start_hidden: boolean, 
/**
 * The apps that come first, by organisation.
 */
favourites: Record<string, AppName[]>, 
/**
 * The organisation that is shown.
 */
selected: OrganisationId, };

/**
 * The window's colours.
 */
export type Theme = "system" | "light" | "dark";

/**
 * The language of the texts.
 */
export type Language = "system" | "en" | "de" | "ar";

/**
 * How a sign-in is begun from the window.
 */
export type LoginWish = { 
/**
 * The organisation's address as typed; absent: that of the last sign-in.
 */
address?: string, 
/**
 * Prolong the session that lives.
 */
renew: boolean, 
/**
 * With `renew`: the app that wants more.
 */
app?: string, 
/**
 * Keep secrets in memory only if there is no usable keyring.
 */
allow_memory_only: boolean, };
