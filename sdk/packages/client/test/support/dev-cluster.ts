// Starts `parlance dev` with a data directory of its own: a whole cluster in one process.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const REPOSITORY = fileURLToPath(new URL("../../../../../", import.meta.url));
const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 30_000;

/** What `parlance dev --output json` prints when it is ready, as far as it is used. */
interface Ready {
  readonly page: string;
  readonly gateways: readonly string[];
  readonly app_id: string;
  readonly log_ins: readonly { readonly user: string; readonly token: string; readonly url: string }[];
  readonly context_file: string;
}

/** The binary: PARLANCE_BIN, else the release build of this repository. */
function binary(): string {
  const target = process.env["CARGO_TARGET_DIR"] ?? join(REPOSITORY, "target");
  const path = process.env["PARLANCE_BIN"] ?? join(target, "release/parlance");
  if (!existsSync(path))
    throw new Error(`${path} does not exist: build it (cargo build --release) or set PARLANCE_BIN`);
  return path;
}

export class DevCluster {
  readonly gateways: readonly string[];
  readonly logIns: Ready["log_ins"];
  readonly #ready: Ready;
  readonly #process: ChildProcess;
  readonly #dataDir: string;

  private constructor(child: ChildProcess, dataDir: string, ready: Ready) {
    this.#process = child;
    this.#dataDir = dataDir;
    this.#ready = ready;
    this.gateways = ready.gateways;
    this.logIns = ready.log_ins;
  }

  /** `pageDir`: the built demo page, when it shall be served. */
  static async start(pageDir?: string): Promise<DevCluster> {
    const dataDir = mkdtempSync(join(tmpdir(), "parlance-sdk-"));
    const page = pageDir === undefined ? [] : ["--page-dir", pageDir];
    const child = spawn(
      binary(),
      [
        "dev",
        "--nodes",
        "3",
        "--gateways",
        "2",
        "--data-dir",
        dataDir,
        "--http",
        "127.0.0.1:0",
        "--output",
        "json",
        ...page,
      ],
      // Away from the contexts of whoever runs the tests.
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, XDG_CONFIG_HOME: dataDir, XDG_RUNTIME_DIR: dataDir },
      },
    );
    try {
      return new DevCluster(child, dataDir, await readReady(child));
    } catch (error) {
      child.kill("SIGKILL");
      rmSync(dataDir, { recursive: true, force: true });
      throw error;
    }
  }

  /** A token of the demo app for any user. */
  async token(user: string, life = "24h"): Promise<string> {
    const args = ["token", "issue", "--app", this.app, "--user", user, "--ttl", life];
    const { token } = await this.admin<{ readonly token: string }>(...args);
    return token;
  }

  /** Runs the command line as the operator; returns what it prints as JSON. */
  async admin<T>(...args: string[]): Promise<T> {
    const { stdout } = await run(binary(), [...args, "--context", this.#ready.context_file, "--output", "json"]);
    return JSON.parse(stdout) as T;
  }

  get app(): string {
    return this.#ready.app_id;
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGINT");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), STOP_WITHIN_MS);
    await exited;
    clearTimeout(timer);
    rmSync(this.#dataDir, { recursive: true, force: true });
  }
}

/** The first line on stdout. On failure the error has the last of what was said on stderr. */
function readReady(child: ChildProcess): Promise<Ready> {
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error("no pipes to the process");
  let said = "";
  stderr.on("data", (text: Buffer) => {
    said = (said + text.toString()).slice(-4_000);
  });
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`parlance dev ${why}; it said:\n${said}`));
    const timer = setTimeout(() => fail(`was not ready within ${READY_WITHIN_MS} ms`), READY_WITHIN_MS);
    child.once("error", (error) => fail(`could not be started: ${error.message}`));
    child.once("exit", (code) => fail(`ended with ${code}`));
    createInterface({ input: stdout }).once("line", (line) => {
      clearTimeout(timer);
      resolve(JSON.parse(line) as Ready);
    });
  });
}
