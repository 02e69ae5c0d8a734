// Short notices at the window's edge. Each says nothing that is not also found in a view, so missing one loses nothing.

import type { Tone } from "./condition";

export interface Toast {
  id: number;
  tone: Tone;
  text: string;
  detail?: string;
  action?: { label: string; run: () => void };
}

/** More at once would hide the window; the oldest goes first. */
const MOST = 3;
const STAYS_MS = 8000;

export class Toasts {
  list: readonly Toast[] = $state.raw([]);
  #next = 0;
  readonly #timers = new Map<number, ReturnType<typeof setTimeout>>();

  show(toast: Omit<Toast, "id">): void {
    const id = this.#next++;
    // The same words again replace the old ones, so that a failing loop does not fill the window.
    const others = this.list.filter((each) => each.text !== toast.text);
    this.list = [...others, { ...toast, id }].slice(-MOST);
    this.release(id);
  }

  dismiss(id: number): void {
    this.hold(id);
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  /** Someone is reading it, or has the focus in it. */
  hold(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  release(id: number): void {
    this.hold(id);
    this.#timers.set(
      id,
      setTimeout(() => this.dismiss(id), STAYS_MS),
    );
  }
}
