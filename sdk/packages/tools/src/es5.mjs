// One file in ES5 of a package in TypeScript with all that it needs: for mini-programs, whose engines and packers differ.
import { readFileSync } from "node:fs";
import { build } from "esbuild";
import ts from "typescript";

/** Every file on its way into the bundle; esbuild itself does not go down to ES5. */
const es5 = {
  name: "es5",
  setup({ onLoad }) {
    onLoad({ filter: /\.[cm]?[jt]s$/ }, ({ path }) => {
      const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), {
        fileName: path,
        compilerOptions: {
          target: ts.ScriptTarget.ES5,
          module: ts.ModuleKind.ESNext,
          downlevelIteration: true,
          // The helper functions are in the bundle once.
          importHelpers: !path.includes("tslib"),
          inlineSourceMap: true,
          inlineSources: true,
        },
      });
      return { contents: outputText, loader: "js" };
    });
  },
};

/** Writes `outfile`, a minified CommonJS module, with its source map beside it. */
export async function bundleEs5(entry, outfile) {
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    minify: true,
    format: "cjs",
    target: "es5",
    sourcemap: true,
    legalComments: "linked",
    plugins: [es5],
  });
}
