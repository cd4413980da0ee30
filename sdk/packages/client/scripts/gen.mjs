// Generates src/gen from the protocol files. `--check` writes nothing and fails when the committed code differs.
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { tool } from "../../../scripts/tool.mjs";

const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const PROTO = resolve(PACKAGE, "../../../proto");
const TARGET = join(PACKAGE, "src/gen");
const OPTIONS = [
  "forceLong=number",
  "oneof=unions-value",
  "importSuffix=.js",
  "esModuleInterop=true",
  "outputJsonMethods=false",
  "outputPartialMethods=false",
  "outputServices=none",
];

const require = createRequire(import.meta.url);
const buf = tool("buf");
const plugin = join(dirname(require.resolve("ts-proto/package.json")), "protoc-gen-ts_proto");

function files(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();
}

/** Some mini-program engines lack `globalThis`, and all that is newer than ES2015; `Error` would be our own message. */
function portable(text) {
  return text
    .replaceAll(
      /globalThis\.Object\.entries\(([\w.]+)\)/g,
      "Object.keys($1).map((key): [string, string] => [key, $1[key] as string])",
    )
    .replaceAll("globalThis.Error(", "RangeError(")
    .replaceAll("globalThis.", "");
}

function generate(out) {
  const template = { version: "v2", plugins: [{ local: ["node", plugin], out, opt: OPTIONS }] };
  const wanted = ["parlance/client/v1", "parlance/common/v1"].flatMap((path) => ["--path", join(PROTO, path)]);
  execFileSync(buf, ["generate", PROTO, "--template", JSON.stringify(template), ...wanted], {
    stdio: "inherit",
    cwd: out,
  });
  for (const name of files(out)) {
    const path = join(out, name);
    writeFileSync(path, portable(readFileSync(path, "utf8")));
  }
}

const scratch = mkdtempSync(join(tmpdir(), "parlance-gen-"));
try {
  generate(scratch);
  if (process.argv.includes("--check")) {
    const fresh = files(scratch);
    const same =
      fresh.join() === files(TARGET).join() &&
      fresh.every((name) => readFileSync(join(scratch, name), "utf8") === readFileSync(join(TARGET, name), "utf8"));
    if (!same) {
      console.error(`${relative(process.cwd(), TARGET)} is not what the protocol files give: run \`npm run gen\``);
      process.exitCode = 1;
    }
  } else {
    rmSync(TARGET, { recursive: true, force: true });
    cpSync(scratch, TARGET, { recursive: true });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
