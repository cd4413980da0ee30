// Generates the API reference of the packages into their dist/docs; fails on what is exported without a word.
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Application } from "typedoc";

const PACKAGES = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

for (const name of ["client", "react"]) {
  const folder = join(PACKAGES, name);
  process.chdir(folder);
  const app = await Application.bootstrapWithPlugins({ options: join(folder, "typedoc.json"), logLevel: "Warn" });
  const project = await app.convert();
  if (project !== undefined) {
    app.validate(project);
    await app.generateOutputs(project);
  }
  if (project === undefined || app.logger.hasErrors() || app.logger.hasWarnings()) {
    throw new Error(`the reference of ${name} is not complete`);
  }
}
