// Runs biome with the arguments given.
import { spawnSync } from "node:child_process";
import { tool } from "./tool.mjs";

const { status, error } = spawnSync(tool("biome"), process.argv.slice(2), { stdio: "inherit" });
if (error) console.error(error.message);
process.exitCode = status ?? 1;
