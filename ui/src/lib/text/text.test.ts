// The texts: complete in each language, safe with values from elsewhere, in the language's own forms.

import { describe, expect, it } from "vitest";
import { problem } from "$lib/agent/problem";
import type { Check, Code, Finding } from "$lib/agent/protocol";
import { type Catalogue, type Key, type Message, places, translator } from "./catalogue";
import { clamp, clean } from "./clean";
import { Formats } from "./format";
import { findingText } from "./finding";
import { chooseLanguage, LANGUAGES } from "./languages";
import { problemText } from "./problem";

const bare = (text: string) => text.replace(/[\u2068\u2069]/g, "");
const english: Catalogue = LANGUAGES.en.catalogue;
const sources = import.meta.glob<string>(["/src/**/*.{svelte,ts}", "!/src/lib/text/{en,de,ar}.ts", "!/src/**/*.test.ts"], {
  query: "?raw",
  import: "default",
  eager: true,
});

describe.each(["de", "ar"] as const)("the catalogue %s", (language) => {
  const { catalogue, codes } = LANGUAGES[language];
  const keys = Object.keys(english) as Key[];

  it("has the same keys and places as the English", () => {
    expect(Object.keys(catalogue).sort()).toEqual([...keys].sort());
    for (const key of keys) expect([key, places(catalogue[key])]).toEqual([key, places(english[key])]);
  });

  it("is translated", () => {
    const same = keys.filter((key) => JSON.stringify(catalogue[key]) === JSON.stringify(english[key]));
    // Names and words that both languages share.
    expect(same.length).toBeLessThan(20);
  });

  it("has a form for each of the language's plurals", () => {
    const wanted = new Intl.PluralRules(language).resolvedOptions().pluralCategories;
    const missing = (message: Message) => typeof message !== "string" && wanted.some((form) => !(form in message));
    expect(keys.filter((key) => missing(catalogue[key]))).toEqual([]);
  });

  it("tells of the same codes as the other translation", () => {
    expect(Object.keys(codes).sort()).toEqual(Object.keys(LANGUAGES.de.codes).sort());
    for (const code of Object.keys(LANGUAGES.en.codes)) if (code !== "callback_rejected" && code !== "host_refused") expect(codes).toHaveProperty(code);
  });
});

describe.each(["de", "ar"] as const)("findings in %s", (language) => {
  const { codes, findings } = LANGUAGES[language];
  const told = (finding: Partial<Finding>) => findingText({ check: "clock", result: "ok", summary: "English", took_ms: 0, ...finding }, findings, codes);
  const checks = Object.keys(findings?.ok ?? {}) as Check[];

  it("are told by check and result, each in its own words, and keep the agent's", () => {
    expect(checks).toHaveLength(9);
    for (const check of checks) {
      for (const result of ["ok", "skipped"] as const) {
        const text = told({ check, result });
        expect(text.summary).not.toBe("English");
        expect(text).toEqual({ summary: findings?.[result][check], words: "English" });
      }
    }
    expect(new Set(Object.values(findings?.ok ?? {})).size).toBe(9);
  });

  it("are told by their code where something is wrong", () => {
    for (const code of Object.keys(codes) as Code[]) {
      expect(told({ result: "failed", code })).toEqual({ summary: codes[code]?.title, fix: codes[code]?.fix, words: "English" });
    }
    expect(told({ result: "failed", code: "csr_invalid", fix: "Fix" })).toEqual({ summary: "English", fix: "Fix" });
  });

  it("say what the code alone would say wrongly", () => {
    const late = told({ check: "certificate", result: "warning", code: "certificate_expired" });
    expect(late.fix).toBe(findings?.special.certificate_late.fix);
    expect(told({ check: "certificate", result: "failed", code: "certificate_expired" }).fix).toBe(codes.certificate_expired?.fix);
    expect(told({ check: "session", result: "warning", code: "token_expired" }).summary).toBe(findings?.special.session_ending.title);
    expect(told({ check: "captive_portal", result: "warning", code: "captive_portal" }).summary).toBe(findings?.special.portal_perhaps.title);
    expect(told({ check: "relay_quic", result: "failed", code: "relay_unreachable" }).summary).toBe(findings?.special.quic_silent.title);
    expect(told({ check: "relay_tcp", result: "failed", code: "relay_unreachable" }).summary).toBe(codes.relay_unreachable?.title);
  });
});

it("findings in English are the agent's, with advice for this window", () => {
  const told = (finding: Partial<Finding>) =>
    findingText({ check: "session", result: "warning", summary: "English", took_ms: 0, ...finding }, LANGUAGES.en.findings, LANGUAGES.en.codes);
  expect(told({ code: "not_signed_in", fix: "Run: postern login" })).toEqual({ summary: "English", fix: "Sign in on Home." });
  const ending = "Sign in again before it does; nothing is dropped: postern login";
  expect(told({ code: "token_expired", fix: ending }).fix).toBe("Sign in again before it does; nothing is dropped.");
  expect(told({ result: "ok" })).toEqual({ summary: "English" });
});

it("has no text that nothing shows", () => {
  const code = Object.values(sources).join("\n");
  // Keys built from parts are looked for by their beginning.
  const used = (key: string) => code.includes(`"${key}"`) || key.split(".").some((_, i, parts) => i > 0 && code.includes(`\`${parts.slice(0, i).join(".")}.\${`));
  expect(Object.keys(english).filter((key) => !used(key))).toEqual([]);
});

describe("translating", () => {
  it("chooses plurals by the language's rules", () => {
    const arabic = translator("ar", LANGUAGES.ar.catalogue);
    expect(bare(arabic("logs.lines", { count: 2 }))).toContain("سطران");
    expect(bare(arabic("logs.lines", { count: 3 }))).toContain("أسطر");
    expect(translator("en", english)("logs.lines", { count: 1 })).toBe("1 line");
  });

  it("isolates and cleans values, and takes them literally", () => {
    const t = translator("en", english);
    expect(t("toast.denied", { app: "a\u202Eb" })).toBe("\u2068ab\u2069 was denied");
    expect(bare(t("toast.denied", { app: "{app} $& $1" }))).toBe("{app} $& $1 was denied");
  });
});

describe("cleaning (A17)", () => {
  it("takes out what hides, reorders or controls", () => {
    expect(clean("a\u0000b\u0007c\u001b[31m")).toBe("abc[31m");
    expect(clean("evil\u202Egnp.exe\u2066x\u2069\u200f")).toBe("evilgnp.exex");
    expect(clean("zero\u200bwidth\ufeff\u{e0041}")).toBe("zerowidth");
    expect(clean("one\r\ntwo\u2028three")).toBe("one two three");
    expect(clean("\ud800lone")).toBe("lone");
  });

  it("lets other scripts be", () => {
    for (const text of ["Größe", "العربية", "日本語", "👩‍🚀".normalize(), "e\u0301"]) {
      expect(clean(text)).toBe(text.replace("\u200d", ""));
    }
  });

  it("unpiles marks", () => expect(clean(`Z${"\u0300".repeat(50)}`)).toBe("Z\u0300\u0300\u0300"));

  it("shortens by letters as a reader counts them", () => {
    expect(clamp("abcdef", 4)).toBe("abc…");
    expect(clamp("abcd", 4)).toBe("abcd");
    expect(clamp("x".repeat(1_000_000), 64)).toHaveLength(64);
  });
});

describe("formats", () => {
  const now = Date.UTC(2026, 10, 23, 12);
  const f = new Formats("en", "UTC");

  it("counts seconds only in the last two minutes", () => {
    expect(f.duration(59_400)).toBe("60 sec");
    expect(f.duration(119_999)).toBe("120 sec");
    expect(f.duration(125_000)).toBe("2 min");
    expect(f.duration(-5)).toBe("0 sec");
  });

  it("says hours and minutes, then days", () => {
    expect(f.duration(5 * 3_600_000 + 12 * 60_000)).toBe("5 hr 12 min");
    expect(f.duration(3 * 86_400_000)).toBe("3 days");
  });

  it("names the day only where it is not near", () => {
    expect(f.when(now + 60_000, now)).toMatch(/^12:01\sPM$/);
    expect(f.when(now + 86_400_000, now)).toContain("Nov 24");
  });

  it("speaks the reader's language", () => {
    expect(new Formats("de").relative(now - 3 * 60_000, now)).toBe("vor 3 Minuten");
    expect(new Formats("de").number(1234.5)).toBe("1.234,5");
  });
});

describe("problems", () => {
  it("are told in the reader's language by their code", () => {
    const text = problemText(problem("relay_unreachable", "The relay cannot be reached", { fix: "Check." }), LANGUAGES.de.codes);
    expect(text).toEqual({ title: "Das Relay ist nicht zu erreichen", fix: "Prüfen Sie Adresse und Netz." });
  });

  it("keep the policy author's words", () => {
    const text = problemText(problem("policy_denied", "x", { reason: "Because.", fix: "Ask Bob." }), LANGUAGES.de.codes);
    expect(text).toMatchObject({ reason: "Because.", fix: "Ask Bob." });
    expect(problemText(problem("policy_denied", "x", { fix: "Ask Bob." }), LANGUAGES.de.codes).fix).toBe("Ask Bob.");
  });

  it("show the agent's own words where the language has none", () => {
    expect(problemText(problem("csr_invalid", "Title", { fix: "Fix" }), LANGUAGES.de.codes)).toEqual({ title: "Title", fix: "Fix" });
  });
});

it("chooses the first language that it has", () => {
  expect(chooseLanguage("system", ["fr-CH", "de-AT", "en"])).toBe("de");
  expect(chooseLanguage("system", ["fr"])).toBe("en");
  expect(chooseLanguage("ar", ["de"])).toBe("ar");
});
