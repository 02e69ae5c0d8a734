// The present time as the pages show it. It moves once a minute, and once a second only while something ends within two
// minutes; not at all while nobody looks. So an idle window costs nothing.

import type { Timestamp } from "$lib/agent/protocol";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const COUNTED = 2 * MINUTE;

/** How long the time may stand still, with `ends` the times that are counted down to. */
export function pause(now: Timestamp, ends: readonly Timestamp[]): number {
  const ahead = ends.filter((end) => end > now);
  if (ahead.some((end) => end - now <= COUNTED)) return SECOND;
  // Wake when the first of them comes within the counted time, if that is sooner.
  return Math.max(SECOND, Math.min(MINUTE, ...ahead.map((end) => end - now - COUNTED)));
}

export class Clock {
  now: Timestamp = $state(Date.now());
  readonly #ends: () => readonly Timestamp[];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ends: () => readonly Timestamp[]) {
    this.#ends = ends;
  }

  /** Runs until the returned function is called. */
  start(): () => void {
    const seen = () => this.tick();
    document.addEventListener("visibilitychange", seen);
    this.tick();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(this.#timer);
    };
  }

  /** Brings the time up to date; also to be called when an event brings a new end. */
  tick(): void {
    clearTimeout(this.#timer);
    this.now = Date.now();
    if (document.visibilityState === "hidden") return;
    this.#timer = setTimeout(() => this.tick(), pause(this.now, this.#ends()));
  }
}
