// Local ports as typed.

/** The port, or undefined where the text is none: 0 or nothing (choose once), or 1024 to 65535 (what a user may open). */
export function portOf(typed: string): number | undefined {
  const text = typed.trim();
  if (text === "") return 0;
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port === 0 || (port >= 1024 && port <= 65_535) ? port : undefined;
}
