// Serves the built pages on a port of the system's choice, under the CSP that the shell sets.

import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../dist-memory", import.meta.url));
const SHELL = fileURLToPath(new URL("../../../src-tauri/tauri.conf.json", import.meta.url));
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const KEPT =
  "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src ipc: http://ipc.localhost; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The shell's own policy where it is there to be read; only its IPC is replaced, which a browser does not have. */
export function policy(): string {
  const csp = existsSync(SHELL) ? shellPolicy(readFileSync(SHELL, "utf8")) : KEPT;
  return csp.replace(/connect-src [^;]*/, "connect-src 'self'");
}

function shellPolicy(text: string): string {
  const config = JSON.parse(text) as { app?: { security?: { csp?: unknown } } };
  const csp = config.app?.security?.csp;
  if (typeof csp !== "string") throw new Error("src-tauri/tauri.conf.json has no CSP of one line");
  return csp;
}

export async function serve(): Promise<{ origin: string; close: () => Promise<void> }> {
  const csp = policy();
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const file = join(ROOT, normalize(path === "/" ? "/index.html" : path));
    if (!file.startsWith(ROOT) || !existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": csp });
    return createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { origin: `http://127.0.0.1:${port}`, close: () => new Promise((resolve) => server.close(() => resolve())) };
}
