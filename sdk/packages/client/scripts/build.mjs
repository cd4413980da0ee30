// Builds dist: ESM and CommonJS with types, and one self-contained CommonJS file for mini-programs.
import { cpSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleEs5 } from "@parlance/tools/es5";
import { compile } from "../../../scripts/compile.mjs";

const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const DIST = join(PACKAGE, "dist");
const require = createRequire(import.meta.url);

compile(PACKAGE);
const miniprogram = join(DIST, "miniprogram");
await bundleEs5(join(PACKAGE, "src/index.ts"), join(miniprogram, "index.js"));
// The packer of mini-programs copies this folder and nothing else: the types have to be in it.
cpSync(join(DIST, "esm"), miniprogram, {
  recursive: true,
  filter: (path) => !path.endsWith("node.d.ts") && (path.endsWith(".d.ts") || statSync(path).isDirectory()),
});
// The package itself is of type module; this one file is not.
writeFileSync(join(miniprogram, "package.json"), `${JSON.stringify({ type: "commonjs" })}\n`);

// Both formats must load by the package's own name, with the same door.
const imported = Object.keys(await import("@parlance/client")).sort();
const required = Object.keys(require("@parlance/client")).sort();
const bundled = Object.keys(require("@parlance/client/miniprogram")).sort();
if (imported.join() !== required.join() || imported.join() !== bundled.join()) {
  throw new Error("the builds do not export the same names");
}
for (const load of [() => import("@parlance/client/node"), async () => require("@parlance/client/node")]) {
  if (typeof (await load()).nodeTransport !== "function") throw new Error("the Node.js entry has no nodeTransport");
}
