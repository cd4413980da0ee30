// Finds a native development tool: its package for this platform, else the program on the PATH. The tools' own npm
// packages name a package for every platform, and an install fails where a registry lacks one of them.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);

const TOOLS = {
  biome: { packages: { x64: "@biomejs/cli-linux-x64", arm64: "@biomejs/cli-linux-arm64" }, path: "biome" },
  buf: { packages: { x64: "@bufbuild/buf-linux-x64", arm64: "@bufbuild/buf-linux-aarch64" }, path: "bin/buf" },
};

/** The path to start `name` with. */
export function tool(name) {
  const { packages, path } = TOOLS[name];
  const wanted = process.platform === "linux" ? packages[process.arch] : undefined;
  return wanted === undefined ? name : join(dirname(require.resolve(`${wanted}/package.json`)), path);
}
