// What the build and the shell put into the global scope.

/** Set by vite.config.ts: is the in-memory agent part of this bundle? */
declare const __WITH_MEMORY_AGENT__: boolean;

interface Window {
  /** Put there by Tauri before any script of ours runs; absent in a plain browser. */
  readonly __TAURI_INTERNALS__?: unknown;
}
