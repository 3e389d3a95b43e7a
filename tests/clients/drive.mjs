// Makes the calls of one of PostgREST's clients, and prints what each came to.
//
// `node drive.mjs postgrest-js|ra-data-postgrest` reads {"url", "calls": [code, …]} as JSON
// from standard input, and prints a JSON array: for each call what it resolved to, or what
// it threw, and the requests that it sent.

import { readFileSync } from "node:fs";

let requests = [];

// The fetch of this Node, with a record of what was sent.
function recording(url, options = {}) {
  const headers = Object.fromEntries(new Headers(options.headers));
  requests.push({ method: options.method ?? "GET", url: String(url), headers });
  return fetch(url, options);
}

// Gives the code of a call `db`.
async function postgrestJs(url) {
  const { PostgrestClient } = await import("@supabase/postgrest-js");
  return { db: new PostgrestClient(url, { fetch: recording }) };
}

// Gives it `keyed`, where the key of features is user_id, `pairs`, where it is two columns,
// and `provider`, which makes another one with other options.
async function raDataPostgrest(url) {
  const { default: module } = await import("@raphiniert/ra-data-postgrest");
  const { fetchUtils } = await import("ra-core");
  const httpClient = (address, options) => {
    requests.push({ url: address, headers: Object.fromEntries(options.headers) });
    return fetchUtils.fetchJson(address, options);
  };
  const provider = (key, options = {}) =>
    module.default({
      apiUrl: url,
      httpClient,
      defaultListOp: "eq",
      primaryKeys: new Map([["features", key]]),
      schema: () => "",
      ...options,
    });
  const keyed = provider(["user_id"]);
  const pairs = provider(["most_common_compound_id", "user_id"]);
  return { keyed, pairs, provider };
}

const clients = {
  "postgrest-js": postgrestJs,
  "ra-data-postgrest": raDataPostgrest,
};

async function main() {
  const { url, calls } = JSON.parse(readFileSync(0, "utf8"));
  const names = await clients[process.argv[2]](url);
  const results = [];
  for (const call of calls) {
    requests = [];
    const result = {};
    try {
      const make = new Function(...Object.keys(names), `return ${call};`);
      result.resolved = await make(...Object.values(names));
    } catch (error) {
      result.thrown = { name: error.name, message: error.message, ...error };
    }
    results.push({ ...result, requests });
  }
  console.log(JSON.stringify(results));
}

await main();
