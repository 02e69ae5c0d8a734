// Which desktop the pages talk to: the shell where there is one, else the agent in memory if it was built in.

import type { Desktop } from "./desktop";

export async function chooseDesktop(): Promise<Desktop> {
  if (window.__TAURI_INTERNALS__ === undefined && __WITH_MEMORY_AGENT__) {
    const { memoryDesktop } = await import("./memory");
    return memoryDesktop(new URLSearchParams(window.location.search));
  }
  const { tauriDesktop } = await import("./tauri");
  return tauriDesktop();
}
