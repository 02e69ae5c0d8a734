// The shape of the pages: rules that a reader would otherwise have to check by eye.

import { describe, expect, it } from "vitest";

const files = import.meta.glob<string>(["/src/**/*.{svelte,ts,css}", "!/src/lib/agent/{protocol,shell}.ts"], { query: "?raw", import: "default", eager: true });
const of = (ending: string) => Object.entries(files).filter(([name]) => name.endsWith(ending));
const having = (list: [string, string][], pattern: RegExp) => list.filter(([, text]) => pattern.test(text)).map(([name]) => name);
const shown = [...of(".svelte"), ...of("en.ts")];

describe("every file", () => {
  it("opens with what it is", () => {
    const wrong = Object.entries(files).filter(([, text]) => !/^(\/\/ |<!-- |\/\* )/.test(text));
    expect(wrong.map(([name]) => name)).toEqual([]);
  });

  it("is no longer than one can read", () => {
    const long = Object.entries(files).filter(([, text]) => text.split("\n").length > 401);
    expect(long.map(([name]) => name)).toEqual([]);
  });
});

describe("A17: text from elsewhere", () => {
  it("is never markup", () => {
    expect(having(of(".svelte"), /\{@html|innerHTML|insertAdjacentHTML|outerHTML/)).toEqual([]);
    expect(having(of(".ts").filter(([name]) => !name.endsWith(".test.ts")), /innerHTML|insertAdjacentHTML|outerHTML|document\.write/)).toEqual([]);
  });

  it("never becomes a link: pages are opened by the shell, as the agent vouches for them", () => {
    expect(having(of(".svelte"), /href=\{|src=\{|target="_blank"|window\.open/)).toEqual([]);
  });
});

describe("A16: the pages", () => {
  it("have no inline style, script or remote content", () => {
    expect(having(of(".svelte"), /\sstyle=|style:|<style|<script(?! lang="ts")|https?:\/\/(?!www\.w3\.org)/)).toEqual([]);
    expect(having(of(".css"), /https?:|@import url/)).toEqual([]);
  });
});

it("is laid out by logical sides alone, so that right-to-left needs no exception", () => {
  const physical = /[\s"'`:](-?(ml|mr|pl|pr|left|right|border-l|border-r|rounded-l|rounded-r|rounded-tl|rounded-tr|rounded-bl|rounded-br|scroll-ml|scroll-mr)-|text-(left|right)\b|float-(left|right)\b|border-[lr]\b)/;
  const css = /(margin|padding|border)-(left|right)|text-align: (left|right)|^\s*(left|right):/m;
  expect(having(of(".svelte"), physical)).toEqual([]);
  expect(having(of(".css"), css)).toEqual([]);
});

it("uses the project's words", () => {
  expect(having(shown, /\b(tunnel|VPN|peer(?!_refused)|resource)s?\b/i)).toEqual([]);
});

it("has no `any`", () => {
  expect(having([...of(".ts"), ...of(".svelte")].filter(([name]) => !name.endsWith("shape.test.ts")), /(: any\b|as any\b|<any>|@ts-ignore|@ts-expect-error)/)).toEqual([]);
});

it("moves nothing without an end", () => {
  expect(having(of(".css"), /animation: turn/)).toHaveLength(1);
  expect(having([...of(".css"), ...of(".svelte")], /\binfinite\b/)).toEqual([]);
});
