// Once per run: the server of the built pages, whose address the tests are given.

import type { TestProject } from "vitest/node";
import { serve } from "./serve";

declare module "vitest" {
  export interface ProvidedContext {
    origin: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await serve();
  project.provide("origin", server.origin);
  return server.close;
}
