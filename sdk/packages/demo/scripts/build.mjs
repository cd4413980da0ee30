// Builds dist: one HTML file, one style sheet, one script, one icon. No inline code, so that a strict policy
// (`default-src 'self'; connect-src *`) holds.
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const DIST = join(PACKAGE, "dist");

rmSync(DIST, { recursive: true, force: true });
mkdirSync(DIST, { recursive: true });
cpSync(join(PACKAGE, "public"), DIST, { recursive: true });
await build({
  entryPoints: [join(PACKAGE, "src/main.ts")],
  outfile: join(DIST, "app.js"),
  // From source: the page needs no build of the client before its own.
  alias: { "@parlance/client": resolve(PACKAGE, "../client/src/index.ts") },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
});
