// The one store: the model as events change it, what is derived from it, and what a person can ask for.

import { createContext } from "svelte";
import type { Desktop, DesktopEvent, LoginWish, OrganisationId, Preferences, View } from "$lib/agent/desktop";
import { asProblem } from "$lib/agent/problem";
import type { AppName, Finding, Problem } from "$lib/agent/protocol";
import { clean } from "$lib/text/clean";
import { type Translate, translator } from "$lib/text/catalogue";
import { Formats } from "$lib/text/format";
import { chooseLanguage, LANGUAGES } from "$lib/text/languages";
import { type FindingText, findingText } from "$lib/text/finding";
import { problemText, type ProblemText } from "$lib/text/problem";
import { Clock } from "./clock.svelte";
import { type Condition, condition } from "./condition";
import { type Action, type AgentModel, EMPTY, EMPTY_AGENT, type Model, own, reduce } from "./model";
import { relayName } from "./path";
import { Toasts } from "./toasts.svelte";

export const [useApp, provideApp] = createContext<App>();

export class App {
  readonly desktop: Desktop;
  readonly toasts = new Toasts();
  readonly clock: Clock = new Clock(() => this.#ends());
  #model: Model = $state.raw(EMPTY);
  /** What runs now, by name: its button waits and cannot start it twice. */
  busy: ReadonlySet<string> = $state.raw(new Set<string>());

  constructor(desktop: Desktop) {
    this.desktop = desktop;
  }

  /** Listens and keeps time until the returned function is called. */
  async start(): Promise<() => void> {
    const stopClock = this.clock.start();
    const stopEvents = await this.desktop.subscribe((event) => this.heard(event));
    return () => {
      stopEvents();
      stopClock();
    };
  }

  heard(event: DesktopEvent): void {
    this.dispatch(event);
    if (event.kind === "agent") this.#call(event.organisation, event);
    if (event.kind === "login" && event.event.step === "online") this.#signedIn(event.organisation);
  }

  dispatch(action: Action): void {
    this.#model = reduce(this.#model, action);
    if (action.kind === "agent" && (action.event.event === "status" || action.event.event === "held")) this.clock.tick();
  }

  // What is shown.

  get view(): View {
    return this.#model.view;
  }
  get preferences(): Preferences {
    return this.#model.preferences;
  }
  get organisations(): Model["organisations"] {
    return this.#model.organisations;
  }
  /** The organisation shown: the selected one, or the first where that is gone. */
  readonly selected: OrganisationId = $derived.by(() => {
    const ids = this.#model.organisations.map((organisation) => organisation.id);
    const wanted = this.#model.preferences.selected;
    return ids.includes(wanted) ? wanted : (ids[0] ?? wanted);
  });
  readonly known: AgentModel | undefined = $derived(own(this.#model.agents, this.selected));
  readonly agent: AgentModel = $derived(this.known ?? EMPTY_AGENT);
  readonly condition: Condition = $derived(condition(this.known, this.clock.now));
  readonly favourites: ReadonlySet<AppName> = $derived(new Set(own(this.#model.preferences.favourites, this.selected) ?? []));

  conditionOf(id: OrganisationId): Condition {
    return condition(own(this.#model.agents, id), this.clock.now);
  }
  /** What an organisation calls itself, else what the shell calls it. */
  nameOf(id: OrganisationId): string {
    const status = own(this.#model.agents, id)?.status;
    const label = this.#model.organisations.find((organisation) => organisation.id === id)?.label;
    return status?.organisation || label || status?.relay || this.t("organisation.unnamed");
  }
  /** Told apart from others that call themselves the same: by the relay's address. */
  tellApart(id: OrganisationId): string {
    const name = this.nameOf(id);
    const twins = this.organisations.some((other) => other.id !== id && this.nameOf(other.id) === name);
    const relay = own(this.#model.agents, id)?.status?.relay;
    return twins && relay !== undefined && relay !== name ? `${name} (${relayName(relay)})` : name;
  }
  /** The address as it was typed, also after a sign-in with it came to nothing. */
  address = $state("");

  // In which words.

  readonly language = $derived(chooseLanguage(this.#model.preferences.language, navigator.languages));
  readonly texts = $derived(LANGUAGES[this.language]);
  readonly f: Formats = $derived(new Formats(this.language));
  readonly #translate: Translate = $derived(translator(this.language, this.texts.catalogue));
  readonly t: Translate = (key, ...values) => this.#translate(key, ...values);

  problemText(problem: Problem): ProblemText {
    return problemText(problem, this.texts.codes);
  }
  findingText(finding: Finding): FindingText {
    return findingText(finding, this.texts.findings, this.texts.codes);
  }

  // What can be asked for.

  show(view: View): void {
    this.dispatch({ kind: "view", view });
  }

  /** Does it once, with its button waiting; a refusal becomes a notice. True: it went well. */
  async run(name: string, action: () => Promise<unknown>): Promise<boolean> {
    if (this.busy.has(name)) return false;
    this.busy = new Set([...this.busy, name]);
    try {
      await action();
      return true;
    } catch (thrown) {
      this.refused(asProblem(thrown));
      return false;
    } finally {
      this.busy = new Set([...this.busy].filter((each) => each !== name));
    }
  }

  refused(problem: Problem): void {
    const { title, reason, fix } = this.problemText(problem);
    const detail = [reason ?? problem.detail, fix].filter(Boolean).join(" ");
    this.toasts.show({ tone: "bad", text: clean(title), ...(detail && { detail: clean(detail) }) });
  }

  async login(request: LoginWish): Promise<void> {
    const organisation = this.selected;
    this.dispatch({ kind: "login_begun", organisation, renew: request.renew });
    try {
      await this.desktop.login(organisation, request);
    } catch (thrown) {
      this.dispatch({ kind: "login_failed", organisation, problem: asProblem(thrown) });
    }
  }

  async logout(): Promise<void> {
    const organisation = this.selected;
    await this.run("logout", async () => {
      const result = await this.desktop.logout(organisation);
      this.dispatch({ kind: "signed_out", organisation, result });
      this.show("home");
      this.toasts.show({ tone: "good", text: this.t("session.signedout"), detail: this.t("session.signedout.browser") });
    });
  }

  async reopenSignIn(): Promise<void> {
    if (await this.run("reopen", () => this.desktop.reopenSignIn(this.selected))) {
      this.toasts.show({ tone: "good", text: this.t("login.reopened") });
    }
  }

  openApp(app: AppName): Promise<boolean> {
    return this.run(`open ${app}`, () => this.desktop.openApp(this.selected, app));
  }

  async copy(text: string, what: string): Promise<void> {
    if (await this.run(`copy ${what}`, () => this.desktop.copy(text))) {
      this.toasts.show({ tone: "good", text: this.t("copied.what", { what }) });
    }
  }

  async prefer(change: Partial<Preferences>): Promise<void> {
    const preferences = { ...this.preferences, ...change };
    // Shown at once: a switch that waits for an answer feels broken. The answer, or the old state, then counts.
    const before = this.preferences;
    this.dispatch({ kind: "preferences", preferences });
    try {
      this.dispatch({ kind: "preferences", preferences: await this.desktop.setPreferences(preferences) });
    } catch (thrown) {
      this.dispatch({ kind: "preferences", preferences: before });
      this.refused(asProblem(thrown));
    }
  }

  toggleFavourite(app: AppName): Promise<void> {
    const chosen = new Set(this.favourites);
    if (!chosen.delete(app)) chosen.add(app);
    return this.prefer({ favourites: { ...this.preferences.favourites, [this.selected]: [...chosen].sort() } });
  }

  /** What calls for attention wherever one looks. */
  #call(organisation: OrganisationId, { event }: Extract<DesktopEvent, { kind: "agent" }>): void {
    if (organisation !== this.selected) return;
    if (event.event === "resumed") {
      this.toasts.show({ tone: "good", text: this.t("toast.resumed", { app: event.app }) });
    }
    if (event.event !== "denied") return;
    const key = event.kind === "cut" ? "toast.cut" : event.kind === "held" ? "toast.held" : "toast.denied";
    const { title, reason } = this.problemText(event.problem);
    this.toasts.show({
      tone: event.kind === "held" ? "warn" : "bad",
      text: this.t(key, { app: event.app }),
      detail: clean(reason ?? title),
      action: { label: this.t("toast.why"), run: () => this.show("activity") },
    });
  }

  #signedIn(organisation: OrganisationId): void {
    const renewed = own(this.#model.agents, organisation)?.login?.renew ?? false;
    this.dispatch({ kind: "login_dismissed", organisation });
    this.address = "";
    this.toasts.show({ tone: "good", text: this.t(renewed ? "login.renewed" : "login.connected") });
  }

  #ends(): number[] {
    const ends = Object.values(this.agent.held).map((held) => held.until);
    const session = this.agent.status?.session?.ends;
    return session === undefined ? ends : [...ends, session];
  }
}
