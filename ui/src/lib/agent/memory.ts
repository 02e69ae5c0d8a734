// A desktop with an agent in memory: for work on the pages and for their tests. Never part of the shell's bundle.
//
// `?scenario=NAME` chooses where it starts; `theme`, `language` and `view` set what they say.

import type { Desktop, DesktopEvent, LanguageChoice, Preferences, Theme, View } from "./desktop";
import * as data from "./memory/fixtures";
import { isScenario, SCENARIOS, type World } from "./memory/scenarios";
import { problem } from "./problem";
import type { Finding, LocalEvent, LoginEvent, Problem, Settings, Status } from "./protocol";

/** How long the steps of a sign-in and the checks of the doctor take here. */
const STEP_MS = 350;

export function memoryDesktop(query: URLSearchParams): Desktop {
  return new MemoryDesktop(query).desktop();
}

const FAILED = {
  cancelled: problem("sign_in_cancelled", "The sign-in was cancelled or refused"),
  keyring_locked: problem("keyring_locked", "The keyring is locked or refused"),
  failed: problem("provider_unreachable", "The provider cannot be reached", { detail: "login.northwind.example: connection refused" }),
} as const;

class MemoryDesktop {
  readonly #query: URLSearchParams;
  readonly #world: World;
  #organisations = [data.ORGANISATION];
  #preferences: Preferences;
  #settings: Settings = { http_port: 7080, ports: { "ledger-db": 25432 }, fixed: ["ledger-db"] };
  #listener: ((event: DesktopEvent) => void) | undefined;
  /** The steps of the sign-in or doctor still to come. */
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  constructor(query: URLSearchParams) {
    const name = query.get("scenario");
    this.#query = query;
    this.#world = { ...SCENARIOS[isScenario(name) ? name : "first_run"](Date.now()) };
    this.#preferences = {
      ...data.PREFERENCES,
      theme: (query.get("theme") ?? "system") as Theme,
      language: (query.get("language") ?? "system") as LanguageChoice,
    };
  }

  desktop(): Desktop {
    return {
      subscribe: async (listener) => {
        this.#listener = listener;
        // Tests, and whoever works on the pages, push what they like: a denial, a cut, a new status.
        window.addEventListener("memory-agent", (event) => this.#tell((event as CustomEvent<DesktopEvent>).detail));
        this.#present();
        return () => (this.#listener = undefined);
      },
      startAgent: async () => this.#startAgent(),
      restartAgent: async () => this.#startAgent(),
      installAgent: async () => {
        this.#service("installed");
        this.#startAgent();
      },
      uninstallAgent: async () => this.#service("not_installed"),
      addOrganisation: async () => this.#add(),
      removeOrganisation: async (id) => this.#remove(id),
      login: async (organisation, request) => this.#login(organisation, request.renew, request.allow_memory_only),
      reopenSignIn: async () => undefined,
      cancelLogin: async (organisation) => {
        this.#stop();
        this.#failLogin(organisation, problem("sign_in_cancelled", "The sign-in was cancelled or refused"));
      },
      logout: async () => {
        const status = this.#signOut();
        return { ...status, untold: [] };
      },
      openApp: async () => undefined,
      activity: async () => ({ entries: this.#world.activity }),
      doctor: (organisation) => this.#doctor(organisation),
      logs: async () => ({ lines: data.logs(Date.now()) }),
      saveBundle: async () => "/home/ada/Downloads/postern-2026-11-23.json",
      agentSettings: async () => this.#settings,
      setAgentSettings: async (_, settings) => (this.#settings = { ...settings, fixed: this.#settings.fixed }),
      setPreferences: async (preferences) => {
        this.#preferences = preferences;
        this.#tell({ kind: "preferences", preferences });
        return preferences;
      },
      copy: async (text) => {
        // The clipboard of a browser without a person at it refuses; that is no concern of the pages.
        await navigator.clipboard?.writeText(text).catch(() => undefined);
      },
    };
  }

  #tell(event: DesktopEvent): void {
    this.#listener?.(event);
  }

  #agent(event: LocalEvent, organisation = "default"): void {
    this.#tell({ kind: "agent", organisation, event });
  }

  /** The whole present state, in the order in which the shell sends it. */
  #present(): void {
    const world = this.#world;
    const organisation = "default";
    this.#tell({ kind: "preferences", preferences: this.#preferences });
    this.#tell({ kind: "organisations", organisations: this.#organisations });
    if (world.gone) this.#tell({ kind: "agent_gone", organisation, problem: world.gone });
    if (world.status) {
      this.#agent({ event: "status", status: world.status });
      this.#agent({ event: "apps", apps: world.apps });
      this.#agent({ event: "traffic", apps: world.traffic });
    }
    if (world.held) this.#agent({ event: "held", ...world.held });
    this.#presentLogin(organisation);
    const view = this.#query.get("view");
    if (view) this.#tell({ kind: "show", view: view as View });
  }

  #presentLogin(organisation: string): void {
    const login = this.#world.login;
    if (!login) return;
    const tell = (event: LoginEvent) => this.#tell({ kind: "login", organisation, event });
    if (login !== "keyring_locked") tell({ step: "key_ready", storage: "keyring" });
    if (login === "authorize" || login === "signed_in") tell({ step: "authorize", url: "https://login.northwind.example/authorize" });
    if (login === "authorize") return;
    if (login === "signed_in") return tell({ step: "signed_in" });
    tell({ step: "failed", problem: FAILED[login] });
  }

  #status(status: Status, organisation = "default"): Status {
    if (organisation === "default") this.#world.status = status;
    this.#agent({ event: "status", status }, organisation);
    return status;
  }

  #startAgent(): void {
    delete this.#world.gone;
    this.#status(data.signedOut());
  }

  #service(service: "installed" | "not_installed"): void {
    this.#organisations = this.#organisations.map((each) => (each.id === "default" ? { ...each, service } : each));
    this.#tell({ kind: "organisations", organisations: this.#organisations });
  }

  #add(): string {
    const id = `organisation-${this.#organisations.length + 1}`;
    const state_dir = `${data.ORGANISATION.state_dir}/organisations/${id}`;
    this.#organisations = [...this.#organisations, { id, label: "", state_dir, service: "not_installed" }];
    this.#tell({ kind: "organisations", organisations: this.#organisations });
    this.#agent({ event: "status", status: data.signedOut() }, id);
    return id;
  }

  #remove(id: string): void {
    this.#organisations = this.#organisations.filter((each) => each.id !== id);
    this.#tell({ kind: "organisations", organisations: this.#organisations });
  }

  #login(organisation: string, renew: boolean, memoryOnly: boolean): void {
    this.#stop();
    const storage = memoryOnly ? "memory" : "keyring";
    const tell = (event: LoginEvent) => this.#tell({ kind: "login", organisation, event });
    const status = data.online(Date.now());
    const before = this.#world.status ?? data.signedOut();
    if (!renew) this.#status({ ...before, state: "signing_in" }, organisation);
    const steps: (() => void)[] = [
      ...(renew ? [] : [() => tell({ step: "key_ready", storage })]),
      () => tell({ step: "authorize", url: "https://login.northwind.example/authorize" }),
      () => undefined,
      () => tell({ step: "signed_in" }),
      ...(renew ? [] : [() => tell({ step: "enrolled", device: status.device?.id ?? "" })]),
      () => {
        this.#status(status, organisation);
        const apps = renew ? data.apps().map((app) => (app.step_up ? { ...app, allowed: true } : app)) : data.apps();
        this.#agent({ event: "apps", apps }, organisation);
        this.#agent({ event: "traffic", apps: data.traffic(Date.now()) }, organisation);
        tell({ step: "online", status });
      },
    ];
    steps.forEach((step, i) => this.#after(i * STEP_MS, step));
  }

  #failLogin(organisation: string, why: Problem): void {
    const state = this.#world.status?.state;
    if (state !== "online") this.#status({ ...(this.#world.status ?? data.signedOut()), state: "signed_out" }, organisation);
    this.#tell({ kind: "login", organisation, event: { step: "failed", problem: why } });
  }

  #signOut(): Status {
    const { version, relay, organisation } = data.online(Date.now());
    this.#agent({ event: "apps", apps: [] });
    return this.#status({ version, state: "signed_out", ...(relay && { relay }), ...(organisation && { organisation }) });
  }

  async #doctor(organisation: string): Promise<Finding[]> {
    const { findings, halts = Infinity } = this.#world.doctor ?? { findings: data.FINDINGS };
    for (const finding of findings.slice(0, halts)) {
      await new Promise<void>((resolve) => this.#after(STEP_MS / 3, resolve));
      this.#tell({ kind: "finding", organisation, finding });
    }
    if (halts < findings.length) await new Promise(() => undefined);
    return [...findings];
  }

  #after(ms: number, then: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
  }

  #stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}
