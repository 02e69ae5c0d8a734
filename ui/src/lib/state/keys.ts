// Keys that work everywhere in the window.

import type { View } from "$lib/agent/desktop";

export const VIEWS: readonly View[] = ["home", "session", "device", "activity", "diagnostics", "settings"];

/** Ctrl+1 to Ctrl+6 (Command on a Mac) show the views. */
export function viewOfKey(event: KeyboardEvent): View | undefined {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return undefined;
  return VIEWS[Number.parseInt(event.key, 10) - 1];
}

/** The search of apps, wherever it is drawn. */
export const SEARCH_ID = "app-search";

/** Ctrl+K (Command on a Mac) goes to the search of apps from anywhere. */
export function isFindKey(event: KeyboardEvent): boolean {
  return (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k";
}

/** `/` goes to the search of the view, unless it is being typed somewhere. */
export function isSearchKey(event: KeyboardEvent): boolean {
  const target = event.target;
  const typing = target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));
  return event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing;
}
