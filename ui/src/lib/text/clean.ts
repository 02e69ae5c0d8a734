// Text from elsewhere (apps, policies, relays, providers) made fit to show: it may say what it wants, but it may not
// hide, reorder or break what stands around it.

/** Lengths beyond which text from elsewhere is shortened; the whole of it is one click or hover away. */
export const MOST = { name: 64, line: 160, paragraph: 600, detail: 2000 } as const;

// Control characters, bidi marks, overrides and isolates, zero-width and invisible characters, tags, lone surrogates.
const UNFIT =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}\p{Cs}]/gu;
const BREAKS = /[\t\n\u2028\u2029]+/gu;
// More than three marks on one letter paint over the lines above and below.
const PILED = /(\p{M}{3})\p{M}+/gu;

/** One line of printable text. */
export function clean(text: string): string {
  return text.replace(BREAKS, " ").replace(UNFIT, "").replace(PILED, "$1").trim();
}

/** No more than `most` characters as a reader counts them, with an ellipsis where some are missing. */
export function clamp(text: string, most: number): string {
  if (text.length <= most) return text;
  const letters = [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text.slice(0, most * 4))];
  if (letters.length <= most && text.length <= most * 4) return text;
  return `${letters
    .slice(0, most - 1)
    .map((letter) => letter.segment)
    .join("")
    .trimEnd()}…`;
}
