// Four small pages over one core. Everything is hashed, nothing is inlined: the server's CSP allows no inline script or
// style. `index.html` is the upload page.
import { resolve } from "node:path";
import { defineConfig } from "vite";

const page = (name: string) => resolve(import.meta.dirname, `${name}.html`);

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rollupOptions: { input: ["index", "admin", "login", "claim"].map(page) },
  },
});
