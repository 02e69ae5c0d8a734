// Times, durations and numbers in the reader's language.

import type { Timestamp } from "$lib/agent/protocol";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** The last time there is (ECMA-262, 21.4.1.1): agents count further than pages can. */
const LAST: Timestamp = 8.64e15;

/** A time that can be told, whatever was said. */
export function tellable(at: Timestamp): Timestamp {
  return Math.max(0, Math.min(at, LAST)) || 0;
}

export class Formats {
  readonly #language: string;
  readonly #time: Intl.DateTimeFormat;
  readonly #dayTime: Intl.DateTimeFormat;
  readonly #yearDayTime: Intl.DateTimeFormat;
  readonly #exact: Intl.DateTimeFormat;
  readonly #relative: Intl.RelativeTimeFormat;
  readonly #number: Intl.NumberFormat;
  readonly #units = new Map<string, Intl.NumberFormat>();

  constructor(language: string, timeZone?: string) {
    const zone = timeZone === undefined ? {} : { timeZone };
    this.#language = language;
    this.#time = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit", ...zone });
    this.#dayTime = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit", ...zone });
    this.#yearDayTime = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short", ...zone });
    this.#exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium", ...zone });
    this.#relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
    this.#number = new Intl.NumberFormat(language);
  }

  number(value: number): string {
    return this.#number.format(value);
  }

  /** The time alone where it is within the next or last 12 hours, else with its day; the year where that could be doubted. */
  when(at: Timestamp, now: Timestamp): string {
    const [time, far] = [tellable(at), Math.abs(at - now)];
    if (far < 12 * HOUR) return this.#time.format(time);
    return (far < 180 * DAY ? this.#dayTime : this.#yearDayTime).format(time);
  }

  /** To the second, for the record. */
  exact(at: Timestamp): string {
    return this.#exact.format(tellable(at));
  }

  /** "3 minutes ago", "in 2 hours". */
  relative(at: Timestamp, now: Timestamp): string {
    const away = at - now;
    const far = Math.abs(away);
    if (far < MINUTE) return this.#relative.format(0, "second");
    if (far < HOUR) return this.#relative.format(Math.trunc(away / MINUTE), "minute");
    if (far < DAY) return this.#relative.format(Math.trunc(away / HOUR), "hour");
    return this.#relative.format(Math.trunc(away / DAY), "day");
  }

  /** "2 h 5 min", "9 min", "45 sec"; seconds only within the last two minutes, which is when they are counted. */
  duration(ms: number): string {
    const left = Math.max(0, ms);
    if (left < 2 * MINUTE) return this.#unit(Math.ceil(left / 1000), "second");
    const minutes = Math.floor(left / MINUTE);
    const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60)];
    if (days >= 2) return this.#unit(days, "day");
    if (hours === 0) return this.#unit(minutes, "minute");
    const rest = minutes % 60;
    return rest === 0 ? this.#unit(hours, "hour") : `${this.#unit(hours, "hour")} ${this.#unit(rest, "minute")}`;
  }

  milliseconds(ms: number): string {
    return this.#unit(ms, "millisecond");
  }

  #unit(value: number, unit: string): string {
    let format = this.#units.get(unit);
    if (!format) {
      // Costly to make, and asked for by each card and row.
      format = new Intl.NumberFormat(this.#language, { style: "unit", unit, unitDisplay: "short" });
      this.#units.set(unit, format);
    }
    return format.format(value);
  }
}
