// Walks through the window as a person takes them: by keyboard alone, and through things that happen by themselves.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DesktopEvent } from "../src/lib/agent/desktop";
import { launch, visit } from "./harness/browser";

let browser: Browser;
beforeAll(async () => (browser = await launch()));
afterAll(() => browser.close());

it("takes the keyboard alone from first run to an open app, a denial's id, and out again", async () => {
  const { page, complaints, close } = await visit(browser, { scenario: "first_run" });
  await tabTo(page, /organisation's address/);
  await page.keyboard.type("relay.northwind.example");
  await page.keyboard.press("Enter");
  await page.getByText("Finish signing in, in your browser").waitFor();
  await page.getByRole("heading", { level: 1, name: "Connected" }).waitFor();

  await page.keyboard.press("Control+3");
  await page.getByRole("heading", { level: 1, name: "Device" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("wiki");
  await tabTo(page, /^Open wiki$/);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Control+4");
  await page.getByRole("heading", { level: 1, name: "Activity" }).waitFor();
  await push(page, denied());
  await tabTo(page, /^Copy decision id 019ac5d3/);
  await page.keyboard.press("Enter");
  await page.getByText(/Copied: .*Decision/).waitFor();

  await page.keyboard.press("Control+2");
  await tabTo(page, /^Sign out$/);
  await page.keyboard.press("Enter");
  await page.getByRole("alertdialog").waitFor();
  await tabTo(page, /^Sign out$/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Signed out" }).waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("lets a sign-in be cancelled and begun again", async () => {
  const { page, complaints, close } = await visit(browser, { scenario: "signing_in" });
  await page.getByRole("button", { name: "Open the page again" }).click();
  await page.getByRole("button", { name: "Cancel sign-in" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign-in cancelled" }).waitFor();
  await page.getByRole("button", { name: /^Sign in to/ }).click();
  await page.getByRole("heading", { level: 1, name: "Connected" }).waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("prolongs a session without leaving the page", async () => {
  const { page, close } = await visit(browser, { scenario: "expiring" });
  await page.getByRole("button", { name: "Prolong session" }).click();
  await page.getByText("Your session was prolonged. Nothing was interrupted.").waitFor();
  await page.getByRole("heading", { level: 1, name: "Connected", exact: true }).waitFor();
  await close();
});

it("tells of a denial as it happens, and shows why", async () => {
  const { page, close } = await visit(browser, { scenario: "online" });
  await push(page, denied());
  const notices = page.getByRole("region", { name: "Notices" });
  await notices.getByText("was denied").waitFor();
  await notices.getByRole("button", { name: "See why" }).click();
  await page.getByRole("heading", { level: 1, name: "Activity" }).waitFor();
  await page.getByText("Only devices with a firewall switched on").first().waitFor();
  await close();
});

it("asks doctor, shows each finding, saves the file and the log", async () => {
  const { page, complaints, close } = await visit(browser, { scenario: "online", view: "diagnostics" });
  await page.getByRole("button", { name: "Run the checks" }).click();
  await page.getByText("1 thing to look at").waitFor();
  await page.getByRole("button", { name: "Save the file" }).click();
  await page.getByText("/home/ada/Downloads/postern-2026-11-23.json").waitFor();
  await page.getByRole("button", { name: "Show the log" }).click();
  await page.getByText("120 lines").waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("changes theme, language and direction at once, and adds and removes an organisation", async () => {
  const { page, complaints, close } = await visit(browser, { scenario: "online", view: "settings" });
  await page.getByLabel("Colours").selectOption({ label: "Dark" });
  expect(await page.locator("html").getAttribute("data-theme")).toBe("dark");
  await page.getByRole("button", { name: "Add an organisation" }).click();
  await page.getByRole("heading", { level: 1, name: "Welcome to Postern" }).waitFor();
  await page.keyboard.press("Control+6");
  await page.getByRole("button", { name: /^Remove .*New organisation/ }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Remove" }).click();
  await expect.poll(() => page.getByRole("button", { name: /^Remove/ }).count()).toBe(0);
  await page.getByLabel("Language").selectOption({ label: "العربية" });
  expect(await page.locator("html").getAttribute("dir")).toBe("rtl");
  expect(complaints).toEqual([]);
  await close();
});

it("A17: lets hostile text be nothing but text", async () => {
  for (const view of ["home", "session", "activity"]) {
    const { page, complaints, close } = await visit(browser, { scenario: "hostile", view });
    expect(await page.title()).not.toContain("owned");
    expect(await page.locator("main img, main script, main iframe").count()).toBe(0);
    expect(await page.locator("main").innerText()).not.toMatch(/[\u202a-\u202e\u0000-\u0008]/);
    expect(complaints).toEqual([]);
    await close();
  }
});

it("costs nothing while idle: nothing is animated and no timer runs faster than once a minute", async () => {
  const { page, close } = await visit(browser, { scenario: "online" });
  expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find((each) => each.name === "TaskDuration")?.value ?? 0;
  const before = await busy();
  // Two seconds of nothing are what is measured here, not a wait for something.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const share = ((await busy()) - before) / 2;
  console.info("share of one core while idle:", share.toFixed(4));
  expect(share).toBeLessThan(0.05);
  await close();
});

/** Presses Tab until what has the focus bears this name. A person would do no other. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  for (let i = 0; i < 120; i++) {
    const found = await page.evaluate(() => {
      const at = document.activeElement;
      if (at === document.body) return "";
      const label = at instanceof HTMLInputElement ? (at.labels?.[0]?.textContent ?? at.ariaLabel) : (at?.ariaLabel ?? at?.textContent);
      return (label ?? "").replace(/[\u2068\u2069]/g, "").trim();
    });
    if (name.test(found)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not lead to ${name}`);
}

/** The agent in memory pushes this. */
function push(page: Page, events: DesktopEvent[]): Promise<void> {
  return page.evaluate((details) => {
    for (const detail of details) window.dispatchEvent(new CustomEvent("memory-agent", { detail }));
  }, events);
}

function denied(): DesktopEvent[] {
  const decision = `019ac5d3${"0".repeat(21)}777`;
  const problem = {
    type: "urn:postern:error:policy_denied",
    title: "The policy does not allow this",
    status: 403,
    code: "policy_denied" as const,
    decision,
    reason: "Only devices with a firewall switched on may reach vault.",
  };
  const at = Date.now();
  const entry = { number: 9001, at, app: "vault", kind: "request" as const, method: "GET", path: "/", decision, problem };
  return [
    { kind: "agent", organisation: "default", event: { event: "denied", app: "vault", decision, problem, at, kind: "request" } },
    { kind: "agent", organisation: "default", event: { event: "activity", entries: [entry] } },
  ];
}
