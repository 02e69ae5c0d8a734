// The languages there are, and which of them to use.

import type { LanguageChoice } from "$lib/agent/desktop";
import type { Code } from "$lib/agent/protocol";
import { ar } from "./ar";
import { codesAr } from "./ar.codes";
import { findingsAr } from "./ar.findings";
import type { Catalogue } from "./catalogue";
import { de } from "./de";
import { codesDe } from "./de.codes";
import { findingsDe } from "./de.findings";
import { en } from "./en";
import { codesEn } from "./en.codes";
import type { FindingTexts } from "./finding";

export type Language = Exclude<LanguageChoice, "system">;

/** Title and advice for codes, where the language has them; else the agent's own (English) words are shown. */
export type CodeTexts = Partial<Record<Code, { title: string; fix: string }>>;

export interface LanguageTexts {
  catalogue: Catalogue;
  codes: CodeTexts;
  /** None: the agent's own words are in this language. */
  findings?: FindingTexts;
  dir: "ltr" | "rtl";
  /** As the language calls itself. */
  name: string;
}

export const LANGUAGES: Record<Language, LanguageTexts> = {
  en: { catalogue: en, codes: codesEn, dir: "ltr", name: "English" },
  de: { catalogue: de, codes: codesDe, findings: findingsDe, dir: "ltr", name: "Deutsch" },
  ar: { catalogue: ar, codes: codesAr, findings: findingsAr, dir: "rtl", name: "العربية" },
};

export function chooseLanguage(choice: LanguageChoice, wanted: readonly string[]): Language {
  if (choice !== "system") return choice;
  for (const tag of wanted) {
    const primary = tag.toLowerCase().split("-")[0];
    if (primary === "en" || primary === "de" || primary === "ar") return primary;
  }
  return "en";
}
