// A real browser for the walks, and a page that takes any complaint for a failure: console, CSP, uncaught error.

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { inject } from "vitest";

export const SHOTS = fileURLToPath(new URL("../../shots", import.meta.url));
mkdirSync(SHOTS, { recursive: true });

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-background-networking",
      "--disable-quic",
      "--no-first-run",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export interface Visit {
  scenario: string;
  view?: string;
  language?: "en" | "de" | "ar";
}

export interface Visited {
  page: Page;
  /** What the browser complained of. */
  complaints: string[];
  close: () => Promise<void>;
}

/** The page in a scenario, drawn. */
export async function visit(browser: Browser, wanted: Visit): Promise<Visited> {
  const { language = "en", ...rest } = wanted;
  const context = await browser.newContext({ viewport: { width: 1200, height: 820 }, reducedMotion: "reduce", colorScheme: "light" });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
    );
  });
  await page.goto(`${inject("origin")}/?${new URLSearchParams({ language, ...rest })}`);
  await page.locator("h1").waitFor();
  return { page, complaints, close: () => context.close() };
}
