// What this client calls itself at the log-in. A test keeps it equal to package.json.
export const VERSION = "parlance-ts/0.1.0";
