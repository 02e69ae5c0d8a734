// 500 apps and 500 entries. Machines are noisy and shared, so the milliseconds to the painted frame, which a person feels,
// and the processor's time are told and not judged. Judged is what they depend on: how much is drawn.

import { availableParallelism, loadavg } from "node:os";
import type { Browser, CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { launch, visit } from "./harness/browser";

const ROUNDS = 7;

let browser: Browser;
beforeAll(async () => (browser = await launch()));
afterAll(() => browser.close());

type Act = [name: string, act: (page: Page) => Promise<void>];
/** One after another: each begins where the one before left off. */
const ACTS: Act[] = [
  ["find apps", (page) => page.keyboard.press("Control+k")],
  ["search", (page) => page.keyboard.press("s")],
  ["narrow", (page) => page.keyboard.press("-")],
  ["clear", (page) => page.keyboard.press("Escape")],
  ["favourite", (page) => page.getByRole("button", { name: /service-003.*favourites$/ }).click()],
  ["more apps", (page) => page.getByRole("button", { name: /^Show/ }).click()],
  ["activity", (page) => page.keyboard.press("Control+4")],
  ["denied", (page) => page.getByRole("radio", { name: "Denied" }).click()],
  ["more entries", (page) => page.getByRole("button", { name: /^Show/ }).click()],
  ["search entries", async (page) => {
    await page.keyboard.press("/");
    await page.keyboard.press("g");
  }],
  ["home", (page) => page.keyboard.press("Control+1")],
];

it("tells how long an answer takes with 500 apps and 500 entries", async () => {
  const { page, close } = await visit(browser, { scenario: "many_apps" });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const before = loadavg()[0] ?? 0;
  const felt = new Map<string, number[]>();
  const spent = new Map<string, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, act] of ACTS) {
      const took = await painted(page, session, () => act(page));
      felt.set(name, [...(felt.get(name) ?? []), took.felt]);
      spent.set(name, [...(spent.get(name) ?? []), took.spent]);
    }
  }
  await close();
  const machine = `${availableParallelism()} processors, load ${before.toFixed(1)} before and ${(loadavg()[0] ?? 0).toFixed(1)} after`;
  const lines = ACTS.map(([name]) => `${name}: ${told(felt.get(name))} felt, ${told(spent.get(name))} of the processor`);
  console.info(`ms from input to painted frame, median (most) of ${ROUNDS}; ${machine}\n${lines.join("\n")}`);
});

it("draws no more than one can look at, however much there is", async () => {
  const { page, close } = await visit(browser, { scenario: "many_apps" });
  const cards = page.getByRole("article");
  await expect.poll(() => cards.count()).toBe(24);
  await page.getByRole("button", { name: /^Show/ }).click();
  await expect.poll(() => cards.count()).toBe(48);
  await page.keyboard.press("Control+4");
  await page.getByRole("heading", { level: 1, name: "Activity" }).waitFor();
  await expect.poll(() => page.locator("main li").count()).toBe(30);
  await close();
});

interface Took {
  felt: number;
  spent: number;
}

/** From the input reaching the page until a frame that shows its effect was painted. */
async function painted(page: Page, session: CDPSession, act: () => Promise<void>): Promise<Took> {
  await page.evaluate(() => {
    const store = window as unknown as { took?: Promise<number> };
    store.took = new Promise((resolve) => {
      const begin = (event: Event) => {
        for (const kind of ["keydown", "pointerup"]) window.removeEventListener(kind, begin, true);
        // Two frames: the first is drawn after the effect, the second begins when the first was painted.
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - event.timeStamp)));
      };
      for (const kind of ["keydown", "pointerup"]) window.addEventListener(kind, begin, true);
    });
  });
  const before = await busy(session);
  await act();
  const felt = await page.evaluate(() => (window as unknown as { took: Promise<number> }).took);
  return { felt, spent: (await busy(session)) - before };
}

async function busy(session: CDPSession): Promise<number> {
  const { metrics } = await session.send("Performance.getMetrics");
  return (metrics.find((each) => each.name === "TaskDuration")?.value ?? 0) * 1000;
}

function median(times: readonly number[] = []): number {
  return [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
}

function told(times: readonly number[] = []): string {
  return `${Math.round(median(times))} (${Math.round(Math.max(...times))})`;
}
