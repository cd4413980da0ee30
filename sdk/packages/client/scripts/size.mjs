// What an app pays: the whole client with its protobuf runtime, minified. Fails above the limit.
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT_GZIP_BYTES = 30 * 1024;
const PACKAGE = resolve(dirname(fileURLToPath(import.meta.url)), "..");

const { outputFiles } = await build({
  entryPoints: [join(PACKAGE, "src/index.ts")],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  write: false,
});
const code = outputFiles[0].contents;
const gzip = gzipSync(code, { level: 9 }).length;
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`minified ${kib(code.length)}, gzip ${kib(gzip)}, brotli ${kib(brotliCompressSync(code).length)}`);
if (gzip > LIMIT_GZIP_BYTES) {
  console.error(`above the limit of ${kib(LIMIT_GZIP_BYTES)} (gzip)`);
  process.exitCode = 1;
}
