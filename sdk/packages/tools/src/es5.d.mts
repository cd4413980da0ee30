/** Writes `outfile`, a minified CommonJS module in ES5, with its source map beside it. */
export function bundleEs5(entry: string, outfile: string): Promise<void>;
