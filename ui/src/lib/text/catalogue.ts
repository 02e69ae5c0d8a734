// How texts are looked up: typed keys, typed parameters, plurals by the language's own rules.
//
// A message is a string with `{name}` places, or its plural forms chosen by `{count}`.

import { clean } from "./clean";
import type { en } from "./en";

export type Plural = Partial<Record<Intl.LDMLPluralRule, string>> & { other: string };
export type Message = string | Plural;
export type Key = keyof typeof en;
export type Catalogue = Record<Key, Message>;

type Places<T extends string> = T extends `${string}{${infer Name}}${infer Rest}` ? Name | Places<Rest> : never;
type PlacesOf<M> = M extends string ? Places<M> : M extends { other: infer Other extends string } ? Places<Other> | "count" : never;

/** What the message of a key must be given: nothing, or a value for each of its places. */
export type Parameters<K extends Key> = [PlacesOf<(typeof en)[K]>] extends [never]
  ? []
  : [values: Record<PlacesOf<(typeof en)[K]>, string | number>];

export type Translate = <K extends Key>(key: K, ...values: Parameters<K>) => string;

/** The lookup for one language. Numbers are written as the language writes them. */
export function translator(language: string, catalogue: Catalogue): Translate {
  const plurals = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  return (key, ...[values]) => {
    const given: Record<string, string | number> = values ?? {};
    const message = catalogue[key];
    const form = typeof message === "string" ? message : (message[plurals.select(Number(given["count"]))] ?? message.other);
    return form.replace(/\{(\w+)\}/g, (_, name: string) => {
      const value = given[name] ?? "";
      return typeof value === "number" ? numbers.format(value) : isolated(value);
    });
  };
}

/** A value that may come from elsewhere and run the other way: it cannot disturb the words around it. */
function isolated(value: string): string {
  return `\u2068${clean(value)}\u2069`;
}

/** The places of all forms of a message, for comparing catalogues. */
export function places(message: Message): string[] {
  const forms = typeof message === "string" ? [message] : Object.values(message);
  const names = forms.flatMap((form) => [...form.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? ""));
  return [...new Set(names)].sort();
}
