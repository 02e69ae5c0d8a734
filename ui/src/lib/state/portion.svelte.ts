// How much of a long list is drawn: what fills a window at once, the rest of its portion a few per frame after that, the
// next portion when asked for. So neither 500 apps nor 500 entries make an input wait.

/** Drawn in the first frame: about what a window shows. */
const FIRST = 12;
/** Added per frame after it. */
const CHUNK = 6;

export class Portion {
  readonly step: number;
  readonly #length: () => number;
  #most: number = $state(0);
  /** How many are drawn now. */
  shown: number = $state(FIRST);

  /** To be made with a component, whose end ends the growing. */
  constructor(step: number, length: () => number) {
    this.step = step;
    this.#length = length;
    this.#most = step;
    $effect(() => {
      if (this.shown >= Math.min(this.#most, length())) return;
      let timer: ReturnType<typeof setTimeout> | undefined;
      // A frame's callbacks run before it is painted: only a task after them lets the reader see what is there.
      const frame = requestAnimationFrame(() => {
        timer = setTimeout(() => (this.shown = Math.min(this.#most, this.shown + CHUNK)));
      });
      return () => {
        cancelAnimationFrame(frame);
        clearTimeout(timer);
      };
    });
  }

  /** How many are left to ask for. */
  get rest(): number {
    return Math.max(0, this.#length() - this.#most);
  }

  more(): void {
    this.#most += this.step;
  }

  /** Another list: from its beginning. */
  restart(): void {
    this.#most = this.step;
    this.shown = FIRST;
  }
}
