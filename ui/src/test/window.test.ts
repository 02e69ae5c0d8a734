// The window as a person uses it: first run, cards, denials, filters, dialogs, settings.

import { screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as data from "$lib/agent/memory/fixtures";
import { problem } from "$lib/agent/problem";
import { open, seen } from "./window";

let user: ReturnType<typeof userEvent.setup>;
beforeEach(() => (user = userEvent.setup()));

const heading = () => seen(screen.getByRole("heading", { level: 1 }));

describe("first run", () => {
  it("asks for one address, and says what is wrong with it", async () => {
    const login = vi.fn(async () => undefined);
    await open("first_run", {}, { login });
    await user.click(screen.getByRole("button", { name: "Sign in" }));
    expect(screen.getByText("Enter the address first.")).toBeTruthy();
    expect(document.activeElement).toBe(screen.getByRole("textbox"));
    await user.type(screen.getByRole("textbox"), "javascript:alert(1){Enter}");
    expect(screen.getByText(/does not look like an address/)).toBeTruthy();
    expect(login).not.toHaveBeenCalled();
  });

  it("begins the sign-in with what was typed, and waits with ways back", async () => {
    const login = vi.fn(async () => undefined);
    const cancelLogin = vi.fn(async () => undefined);
    await open("first_run", {}, { login, cancelLogin });
    await user.type(screen.getByRole("textbox"), " relay.example.org {Enter}");
    expect(login).toHaveBeenCalledWith("default", { address: "relay.example.org", renew: false, allow_memory_only: false });
    await user.click(await screen.findByRole("button", { name: "Cancel sign-in" }));
    expect(cancelLogin).toHaveBeenCalledWith("default");
  });

  it("shows each step as it is done, then the apps", async () => {
    const { push } = await open("first_run", {}, { login: async () => undefined });
    await user.type(screen.getByRole("textbox"), "relay.example.org{Enter}");
    const steps = () => within(screen.getByRole("main")).getAllByRole("listitem").map(seen);
    await push({ kind: "login", organisation: "default", event: { step: "key_ready", storage: "keyring" } });
    await push({ kind: "login", organisation: "default", event: { step: "signed_in" } });
    expect(steps()).toEqual(["Signed in · done", "Device key made · in this system's keyring", "Certificate issued · under way", "Connected · to come"]);
    await push({ kind: "agent", organisation: "default", event: { event: "status", status: data.online(Date.now()) } });
    await push({ kind: "login", organisation: "default", event: { step: "online", status: data.online(Date.now()) } });
    expect(heading()).toBe("Connected");
  });

  it("says why it failed and what helps", async () => {
    const login = () => Promise.reject(problem("discovery_invalid", "The address does not answer as a Postern relay does", { fix: "Check the address with your administrator." }));
    await open("first_run", {}, { login });
    await user.type(screen.getByRole("textbox"), "relay.example.org{Enter}");
    expect(await screen.findByText(/does not answer as a Postern relay/)).toBeTruthy();
    expect(screen.getByText("Check the address with your administrator.")).toBeTruthy();
  });

  it("offers keys in memory when the keyring is locked, and only then", async () => {
    const login = vi.fn(async () => undefined);
    await open("keyring_locked", {}, { login });
    await user.click(screen.getByRole("button", { name: /keep keys in memory/ }));
    expect(login).toHaveBeenCalledWith("default", { renew: false, allow_memory_only: true });
  });
});

it("offers a sign-in where the access was withdrawn: it may have been given back", async () => {
  const login = vi.fn(async () => undefined);
  await open("revoked", {}, { login });
  await user.click(screen.getByRole("button", { name: /^Sign in to/ }));
  expect(login).toHaveBeenCalledWith("default", { renew: false, allow_memory_only: false });
});

it("keeps the address that came to nothing, to be mended, and is ready to type from the start", async () => {
  const login = () => Promise.reject(problem("relay_unreachable", "The relay cannot be reached"));
  await open("first_run", {}, { login });
  expect(document.activeElement).toBe(screen.getByRole("textbox"));
  await user.keyboard("relay.exmaple.org{Enter}");
  expect(await screen.findByText("The relay cannot be reached")).toBeTruthy();
  expect(screen.getByRole<HTMLInputElement>("textbox").value).toBe("relay.exmaple.org");
});

it("gives the address of the sign-in's page, and says where no browser could be opened", async () => {
  const copy = vi.fn(async () => undefined);
  const { push } = await open("first_run", {}, { login: async () => undefined, copy });
  await user.type(screen.getByRole("textbox"), "relay.example.org{Enter}");
  expect(screen.getByRole("button", { name: "Cancel sign-in" })).toBeTruthy();
  const url = "https://login.example.org/authorize?x=1";
  await push({ kind: "login", organisation: "default", event: { step: "authorize", url } });
  expect(screen.getByText(/should be open there/)).toBeTruthy();
  await push({ kind: "not_opened", organisation: "default", problem: problem("browser_unavailable", "No browser could be opened") });
  expect(screen.getByText(/^No browser could be opened/)).toBeTruthy();
  expect(screen.queryByText(/should be open there/)).toBeNull();
  await user.click(screen.getByRole("button", { name: "Copy the page's address" }));
  expect(copy).toHaveBeenCalledWith(url);
});

describe("apps", () => {
  it("found first are taken by Enter, where they may be", async () => {
    const openApp = vi.fn(async () => undefined);
    const copy = vi.fn(async () => undefined);
    await open("online", {}, { openApp, copy });
    await user.keyboard("{Control>}k{/Control}{Enter}");
    await user.keyboard("wiki{Enter}{Escape}");
    expect(openApp.mock.calls).toEqual([["default", "wiki"]]);
    await user.keyboard("bastion{Enter}{Escape}");
    expect(copy.mock.calls).toEqual([["ssh -p 20022 127.0.0.1"]]);
    await user.keyboard("vault{Enter}");
    expect(openApp).toHaveBeenCalledTimes(1);
  });

  it("open, and say so to the shell by name only", async () => {
    const openApp = vi.fn(async () => undefined);
    await open("online", {}, { openApp });
    await user.click(screen.getByRole("button", { name: /^Open .*wiki/ }));
    expect(openApp).toHaveBeenCalledWith("default", "wiki");
  });

  it("copy command and address", async () => {
    const copy = vi.fn(async () => undefined);
    await open("online", {}, { copy });
    await user.click(screen.getByRole("button", { name: /^Copy command .*bastion/ }));
    await user.click(screen.getByRole("button", { name: /^Copy address .*wiki/ }));
    expect(copy.mock.calls).toEqual([["ssh -p 20022 127.0.0.1"], ["http://wiki.localhost:7080/"]]);
  });

  it("say why they are denied and how to mend it, and cannot be opened", async () => {
    await open("online");
    const card = within(screen.getByRole("article", { name: "vault" }));
    expect(card.getByText(/Only devices with a firewall switched on/)).toBeTruthy();
    expect(card.getByText(/Turn on the firewall of this device/)).toBeTruthy();
    expect(card.queryByRole("button", { name: /^Open/ })).toBeNull();
    expect(card.queryByRole("button", { name: "Sign in once more" })).toBeNull();
  });

  it("offer a fresher sign-in where only that is missing", async () => {
    const login = vi.fn(async () => undefined);
    await open("online", {}, { login });
    await user.click(within(screen.getByRole("article", { name: "payroll" })).getByRole("button", { name: "Sign in once more" }));
    expect(login).toHaveBeenCalledWith("default", { renew: true, app: "payroll", allow_memory_only: false });
  });

  it("are found by /, and remembered as favourites", async () => {
    const { app } = await open("online");
    await user.keyboard("/metr");
    expect(screen.getAllByRole("article").map((card) => card.getAttribute("aria-label"))).toEqual(["metrics"]);
    await user.click(screen.getByRole("button", { name: /^Add .*metrics/ }));
    expect(app.favourites.has("metrics")).toBe(true);
    await user.clear(screen.getByRole("searchbox"));
    await user.type(screen.getByRole("searchbox"), "nothing-of-the-kind");
    expect(screen.getByText("Nothing found")).toBeTruthy();
  });

  it("are drawn by portions when they are many, what fills a window first", async () => {
    await open("many_apps");
    const drawn = () => screen.getAllByRole("article").length;
    expect(drawn()).toBe(12);
    await waitFor(() => expect(drawn()).toBe(24), { timeout: 5000 });
    await user.click(screen.getByRole("button", { name: /^Show .* more/ }));
    await waitFor(() => expect(drawn()).toBe(48), { timeout: 5000 });
    await user.type(screen.getByRole("searchbox"), "s");
    expect(drawn()).toBe(12);
  });

  it("are found by Ctrl+K and by / from any view, also while something is typed or has the focus", async () => {
    await open("online", { view: "activity" });
    await user.keyboard("{Control>}k{/Control}");
    await waitFor(() => expect(document.activeElement).toBe(screen.getByRole("searchbox", { name: "Search apps" })));
    await user.keyboard("wiki{Control>}k{/Control}metr");
    expect(screen.getAllByRole("article").map((card) => card.getAttribute("aria-label"))).toEqual(["metrics"]);
    await user.keyboard("{Control>}6{/Control}");
    await waitFor(() => expect(heading()).toBe("Settings"));
    await user.keyboard("/");
    await waitFor(() => expect(document.activeElement).toBe(screen.getByRole("searchbox", { name: "Search apps" })));
  });

  it("leave / to Activity's own search there, and the keyboard to a dialog", async () => {
    const { app } = await open("online", { view: "activity" });
    await user.keyboard("/");
    expect(document.activeElement).toBe(await screen.findByRole("searchbox", { name: "Search activity" }));
    app.show("session");
    await user.click(await screen.findByRole("button", { name: "Sign out" }));
    await screen.findByRole("alertdialog");
    await user.keyboard("{Control>}k{/Control}");
    expect(app.view).toBe("session");
  });

  it("cannot be opened while the relay is out of reach, and say what is", async () => {
    await open("offline");
    expect(heading()).toBe("Offline");
    expect(screen.getByRole("button", { name: /^Open .*wiki/ })).toHaveProperty("disabled", true);
  });
});

describe("a denial that happens", () => {
  it("is told at once, with a way to the why", async () => {
    const { push } = await open("online");
    const denied = { event: "denied" as const, app: "vault", problem: data.denial(7), at: Date.now(), kind: "request" as const };
    await push({ kind: "agent", organisation: "default", event: denied });
    const notices = within(screen.getByRole("region", { name: "Notices" }));
    expect(notices.getByText(/was denied/)).toBeTruthy();
    await user.click(notices.getByRole("button", { name: "See why" }));
    expect(heading()).toBe("Activity");
  });
});

describe("activity", () => {
  it("filters by outcome, app and text, and copies a decision's id", async () => {
    const copy = vi.fn(async () => undefined);
    await open("online", { view: "activity" }, { copy });
    const count = () => seen(screen.getAllByRole("status").find((each) => /entr(y|ies)$/.test(each.textContent ?? "")) ?? null);
    await waitFor(() => expect(count()).toBe("80 entries"));
    await user.click(screen.getByRole("radio", { name: "Denied" }));
    expect(count()).toBe("13 entries");
    await user.type(screen.getByLabelText("Search activity"), data.decision(77));
    expect(count()).toBe("1 entry");
    await user.click(screen.getByRole("button", { name: /^Copy decision id/ }));
    expect(copy).toHaveBeenCalledWith(data.decision(77));
    await user.selectOptions(screen.getByLabelText("App"), "wiki");
    expect(screen.getByText("Nothing matches")).toBeTruthy();
    await user.click(screen.getByRole("button", { name: "Clear conditions" }));
    expect(count()).toBe("80 entries");
  });
});

describe("dialogs", () => {
  it("ask before a sign-out, and take no for an answer", async () => {
    const logout = vi.fn(async () => ({ ...data.signedOut(), untold: [] }));
    await open("online", { view: "session" }, { logout });
    await user.click(screen.getByRole("button", { name: "Sign out" }));
    const dialog = within(await screen.findByRole("alertdialog"));
    await user.click(dialog.getByRole("button", { name: "Cancel" }));
    await waitFor(() => expect(screen.queryByRole("alertdialog")).toBeNull());
    expect(logout).not.toHaveBeenCalled();
    await user.click(screen.getByRole("button", { name: "Sign out" }));
    await user.click(within(await screen.findByRole("alertdialog")).getByRole("button", { name: "Sign out" }));
    expect(logout).toHaveBeenCalledWith("default");
  });

  it("name who could not be told of the sign-out", async () => {
    const untold = [{ who: "relay" as const, session: "7d79", problem: problem("relay_unreachable", "The relay cannot be reached") }];
    const { app, push } = await open("online", {}, { logout: async () => ({ ...data.signedOut(), untold }) });
    await app.logout();
    await push({ kind: "agent", organisation: "default", event: { event: "status", status: data.signedOut() } });
    expect(screen.getByText("The relay could not be told")).toBeTruthy();
  });
});

it("does not speak of time left once the session is over", async () => {
  await open("expired", { view: "session" });
  expect(screen.getAllByText("Your session has ended").length).toBeGreaterThan(0);
  expect(screen.queryByText(/ left$/)).toBeNull();
  expect(screen.queryByRole("button", { name: "Prolong session" })).toBeNull();
});

describe("settings", () => {
  it("refuse a port that is none, and leave alone what is fixed", async () => {
    const setAgentSettings = vi.fn(async (_: string, settings: { http_port: number; ports: Record<string, number>; fixed: string[] }) => settings);
    await open("online", { view: "settings" }, { setAgentSettings });
    const port = await screen.findByLabelText("Port of web apps");
    expect(screen.getByLabelText(/^Port of .*ledger-db/)).toHaveProperty("disabled", true);
    const bastion = screen.getByLabelText(/^Port of .*bastion/) as HTMLInputElement;
    expect(bastion.value).toBe("");
    expect(bastion.placeholder).toMatch(/^\d+$/);
    await user.clear(port);
    await user.type(port, "80");
    await user.click(screen.getByRole("button", { name: "Save ports" }));
    expect(screen.getByText(/whole number from 1024/)).toBeTruthy();
    expect(setAgentSettings).not.toHaveBeenCalled();
    await user.clear(port);
    await user.type(port, "8088");
    await user.click(screen.getByRole("button", { name: "Save ports" }));
    await waitFor(() => expect(setAgentSettings).toHaveBeenCalledOnce());
    expect(setAgentSettings.mock.calls[0]?.[1]).toMatchObject({ http_port: 8088, ports: {} });
  });

  it("tell the keys that work everywhere", async () => {
    await open("online", { view: "settings" });
    const help = within(screen.getByRole("region", { name: "Keyboard" }));
    expect(seen(help.getByText("Search apps").closest("div"))).toBe("Search apps Ctrl K or /");
    expect(seen(help.getByText("Settings").closest("div"))).toBe("Settings Ctrl 6");
  });

  it("go back to what counts when the shell refuses", async () => {
    const setPreferences = () => Promise.reject(problem("internal", "No"));
    const { app } = await open("online", { view: "settings" }, { setPreferences });
    await user.click(screen.getByRole("switch", { name: "Notifications" }));
    await waitFor(() => expect(app.preferences.notifications).toBe(true));
    expect(within(screen.getByRole("region", { name: "Notices" })).getByText(/went wrong|No/)).toBeTruthy();
  });

  it("turn the window around for Arabic", async () => {
    await open("online", { view: "settings" });
    await user.selectOptions(screen.getByLabelText("Language"), "ar");
    expect(document.documentElement.dir).toBe("rtl");
    expect(heading()).toBe("الإعدادات");
  });
});

it("starts or installs an agent where none runs", async () => {
  const startAgent = vi.fn(async () => undefined);
  const installAgent = vi.fn(async () => undefined);
  const { push } = await open("no_agent", {}, { startAgent, installAgent });
  await push({ kind: "organisations", organisations: [{ ...data.ORGANISATION, service: "not_installed" }] });
  await user.click(screen.getByRole("button", { name: "Start the agent" }));
  await user.click(screen.getByRole("button", { name: "Install and start" }));
  expect(startAgent).toHaveBeenCalledWith("default");
  expect(installAgent).toHaveBeenCalledWith("default");
});

it("restarts an agent of another version", async () => {
  const restartAgent = vi.fn(async () => undefined);
  await open("update_needed", {}, { restartAgent });
  await user.click(screen.getByRole("button", { name: "Restart the agent" }));
  expect(restartAgent).toHaveBeenCalledWith("default");
});

it("offers to try again where no keyring was found", async () => {
  const login = vi.fn(async () => undefined);
  await open("keyring_unavailable", {}, { login });
  await user.click(screen.getByRole("button", { name: "Try again" }));
  expect(login).toHaveBeenCalledWith("default", { renew: false, allow_memory_only: false });
});

it("shows what the tray asks for, and says the state to screen readers", async () => {
  const { push } = await open("online");
  await push({ kind: "show", view: "device" });
  expect(heading()).toBe("Device");
  expect(screen.getAllByRole("status").some((each) => seen(each) === "State: Connected")).toBe(true);
});
