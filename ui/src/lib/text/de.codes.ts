import type { CodeTexts } from "./languages"; export const codesDe: CodeTexts = {};
