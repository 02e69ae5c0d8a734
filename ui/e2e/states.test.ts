// Every designed state, light and dark, narrow and wide: a picture for the designer's eye, and what a machine can judge:
// axe finds nothing (WCAG 2.2 AA), nothing overflows sideways, the browser complains of nothing.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { launch, SHOTS, visit, type Visit } from "./harness/browser";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

const STATES = [
  "no_agent",
  "peer_refused",
  "agent_trouble",
  "update_needed",
  "first_run",
  "signed_out",
  "signing_in",
  "cancelled",
  "sign_in_failed",
  "enrolling",
  "connecting",
  "online",
  "degraded",
  "offline",
  "captive_portal",
  "clock_wrong",
  "expiring",
  "expired",
  "revoked",
  "keyring_locked",
  "keyring_unavailable",
  "no_apps",
  "many_apps",
  "long_names",
  "hostile",
  "held",
];
/** What is to be pressed before the picture, and seen. */
type State = Visit & { name: string; press?: string; until?: string };
const OTHERS: State[] = [
  { name: "diagnostics-done", scenario: "online", view: "diagnostics", press: "Run the checks", until: "1 thing to look at" },
  { name: "diagnostics-running", scenario: "doctor_running", view: "diagnostics", press: "Run the checks", until: "Checking (6/9)" },
  { name: "diagnostics-fine", scenario: "doctor_fine", view: "diagnostics", press: "Run the checks", until: "All is well." },
  { name: "diagnostics-troubled", scenario: "doctor_troubled", view: "diagnostics", press: "Run the checks", until: "4 things to look at" },
  { name: "rtl-diagnostics", scenario: "doctor_troubled", view: "diagnostics", language: "ar", press: "بدء الفحص", until: "4 أمور" },
  { name: "sign-out", scenario: "online", view: "session", press: "Sign out", until: "Sign out of" },
  ...["session", "device", "activity", "diagnostics", "settings"].map((view) => ({ name: view, scenario: "online", view })),
  ...["home", "session", "device", "activity", "settings"].map((view) => ({
    name: `rtl-${view}`,
    scenario: "online",
    view,
    language: "ar" as const,
  })),
  { name: "rtl-first_run", scenario: "first_run", language: "ar" },
  { name: "german-home", scenario: "online", language: "de" },
  { name: "german-settings", scenario: "online", view: "settings", language: "de" },
  { name: "long_names-session", scenario: "long_names", view: "session" },
];
const ALL: State[] = [...STATES.map((scenario) => ({ name: scenario, scenario })), ...OTHERS];

let browser: Browser;
beforeAll(async () => (browser = await launch()));
afterAll(() => browser.close());

describe.concurrent("each state looks as designed", () => {
  it.each(ALL)("$name", async ({ name, press, until, ...wanted }) => {
    const { page, complaints, close } = await visit(browser, wanted);
    if (press) await page.getByRole("button", { name: press, exact: true }).click();
    if (until) await page.getByText(until).first().waitFor();
    const found: Record<string, string[]> = {};
    await page.evaluate(AXE);
    for (const width of [360, 1200]) {
      await page.setViewportSize({ width, height: width < 600 ? 740 : 820 });
      for (const theme of ["light", "dark"] as const) {
        // The theme follows the system's, live.
        await page.emulateMedia({ colorScheme: theme });
        await page.locator(`html[data-theme=${theme}]`).waitFor();
        const shot = `${name}-${width}-${theme}`;
        // The bar at the bottom of a narrow window would stand across the middle of a picture of the whole page.
        await page.screenshot({ path: `${SHOTS}/${shot}.png`, fullPage: width > 600, animations: "disabled" });
        const wrong = [...(await violations(page)), ...(await overflow(page))];
        if (wrong.length > 0) found[shot] = wrong;
      }
    }
    await close();
    expect(found).toEqual({});
    expect(complaints).toEqual([]);
  });
});

// axe comes in by the debugger's door, which the page's CSP does not guard: nothing needs an exception for the test.
async function violations(page: Page): Promise<string[]> {
  const results = await page.evaluate(
    (tags): Promise<AxeResults> =>
      (window as unknown as { axe: { run: (options: object) => Promise<AxeResults> } }).axe.run({ runOnly: { type: "tag", values: tags } }),
    TAGS,
  );
  return results.violations.flatMap((each) =>
    each.nodes.map((node) => `${each.id}: ${node.target.join(" ")} ${node.failureSummary ?? ""} ${node.html.slice(0, 200)}`),
  );
}

/** What reaches beyond the window's edge and would make it scroll sideways. */
function overflow(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const beyond = [...document.querySelectorAll("body *")].filter((each) => {
      const box = each.getBoundingClientRect();
      return box.width > 0 && (box.right > root.clientWidth + 1 || box.left < -1);
    });
    return beyond.slice(0, 5).map((each) => each.outerHTML.slice(0, 160));
  });
}
