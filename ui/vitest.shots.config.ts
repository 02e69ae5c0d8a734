// The walks through the built pages in a real browser (`npm run shots`).
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "node",
    include: ["e2e/**/*.test.ts"],
    globalSetup: ["e2e/harness/global.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // One browser, two cores: files side by side would only wait for each other.
    fileParallelism: false,
    maxConcurrency: 2,
  },
});
