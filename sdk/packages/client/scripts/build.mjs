// Builds dist: ESM and CommonJS with types, and one self-contained CommonJS file for mini-programs.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const DIST = join(PACKAGE, "dist");
const require = createRequire(import.meta.url);
const tsc = join(dirname(require.resolve("typescript/package.json")), "bin/tsc");

function compile(module, folder) {
  const out = join(DIST, folder);
  execFileSync("node", [tsc, "-p", "tsconfig.build.json", "--module", module, "--outDir", out], {
    cwd: PACKAGE,
    stdio: "inherit",
  });
  const type = module === "CommonJS" ? "commonjs" : "module";
  writeFileSync(join(out, "package.json"), `${JSON.stringify({ type, sideEffects: false })}\n`);
}

rmSync(DIST, { recursive: true, force: true });
compile("ESNext", "esm");
compile("CommonJS", "cjs");
await build({
  entryPoints: [join(PACKAGE, "src/index.ts")],
  outfile: join(DIST, "miniprogram/index.js"),
  bundle: true,
  format: "cjs",
  target: "es2018",
  legalComments: "linked",
});
