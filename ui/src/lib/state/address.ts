// A first look at an address as typed; the agent has the last word.

/** What is plainly wrong with it, if anything. */
export function addressMistake(typed: string): "missing" | "invalid" | undefined {
  const text = typed.trim();
  if (text === "") return "missing";
  const full = text.includes("://") ? text : `https://${text}`;
  if (/\s/.test(text) || !URL.canParse(full)) return "invalid";
  const url = new URL(full);
  const plain = url.protocol === "https:" && url.username === "" && url.password === "";
  const named = url.hostname.includes(".") || url.hostname === "localhost" || url.hostname.startsWith("[");
  return plain && named ? undefined : "invalid";
}
