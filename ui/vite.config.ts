// How the pages are built: one bundle of our own files, no inline scripts, no remote content.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { fileURLToPath } from "node:url";
import { svelteTesting } from "@testing-library/svelte/vite";
import { defineConfig } from "vitest/config";

export default defineConfig(({ mode }) => ({
  plugins: [svelte(), tailwindcss(), svelteTesting()],
  resolve: { alias: { $lib: fileURLToPath(new URL("src/lib", import.meta.url)) } },
  // Decided when building: the shell's bundle has no in-memory agent in it, not even as dead code.
  define: { __WITH_MEMORY_AGENT__: JSON.stringify(mode === "memory" || mode === "test") },
  // The shell loads files from its own origin; inlined assets would need `data:` in more places of its CSP.
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { host: "127.0.0.1", port: 5173, strictPort: true },
  test: {
    environment: "jsdom",
    include: ["src/**/*.test.ts"],
    setupFiles: ["src/test/setup.ts"],
    restoreMocks: true,
    // The stylesheet is read as text by the test of the pages' shape.
    css: true,
  },
}));
