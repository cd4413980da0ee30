// Compiles the package in the current folder: ESM and CommonJS, each with types and maps.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const tsc = join(dirname(require.resolve("typescript/package.json")), "bin/tsc");

export function compile(folder) {
  const dist = join(folder, "dist");
  rmSync(dist, { recursive: true, force: true });
  for (const [module, name, type] of [
    ["ESNext", "esm", "module"],
    ["CommonJS", "cjs", "commonjs"],
  ]) {
    const out = join(dist, name);
    const maps = ["--sourceMap", "--inlineSources"];
    execFileSync("node", [tsc, "-p", "tsconfig.build.json", "--module", module, "--outDir", out, ...maps], {
      cwd: folder,
      stdio: "inherit",
    });
    writeFileSync(join(out, "package.json"), `${JSON.stringify({ type, sideEffects: false })}\n`);
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) compile(process.cwd());
