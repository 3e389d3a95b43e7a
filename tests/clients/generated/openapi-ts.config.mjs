// Node, unlike a bundler, wants the names of files in full.
export default { output: { path: "hey-api", module: { extension: ".js" } } };
