import type { CodeTexts } from "./languages"; export const codesAr: CodeTexts = {};
