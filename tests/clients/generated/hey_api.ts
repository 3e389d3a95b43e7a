// Calls of the client that @hey-api/openapi-ts has made of the document in hey-api/.
// Prints what each came to, by a name for it, as JSON.

import { client } from "./hey-api/client.gen.js";
import {
  cancel,
  events,
  feature,
  features,
  run as readRun,
  runs,
  triggerByPost,
} from "./hey-api/sdk.gen.js";
import type { Feature, Problem } from "./hey-api/types.gen.js";

declare const process: { argv: string[] };
const [, , baseUrl, token] = process.argv;
client.setConfig({ baseUrl, auth: token });

async function filtered() {
  const { data, response } = await features({
    query: {
      select: ["user_id", "who:name"],
      user_id: ["gte.1", "lte.4"],
      name: ["ilike.*a*"],
      "not.or": ["(user_id.eq.3,user_id.eq.4)"],
      '"a.b, \\"c\\" (d)"': ["is.null"],
      order: ["name.desc", "user_id"],
      limit: 1,
    },
    headers: { Prefer: "count=exact" },
  });
  const rows: Feature[] = Array.isArray(data) ? data : []; // with facet an object
  return [response?.status, response?.headers.get("Content-Range"), rows];
}

async function unchanged() {
  const first = await features();
  const etag = first.response?.headers.get("ETag") ?? "";
  const { response } = await features({ headers: { "If-None-Match": etag } });
  return [Array.isArray(first.data) && first.data.length, response?.status];
}

async function one() {
  const { data } = await feature({ path: { key: "1" }, query: { select: ["name"] } });
  const name: string | null | undefined = data?.name;
  return name;
}

async function missing() {
  const { data, error, response } = await feature({ path: { key: "99" } });
  if (data) throw new Error("there is no such row");
  const problem: Problem | undefined = error;
  return [response?.status, problem?.status, problem?.code];
}

async function refused() {
  const { error } = await features({ query: { select: ["nobody"] } });
  return [error?.status, error?.code, error?.message];
}

// A dry run, followed to its end: the stream gives the data of each event.
async function run() {
  const { data } = await triggerByPost({
    query: { wait: false },
    body: { dry_run: true },
  });
  const path = { id: data?.run?.id ?? 0 };
  const { stream } = await events({ path });
  let state: string | undefined;
  for await (const event of stream) {
    if (typeof event === "object") state = event.state;
  }
  const { data: ended } = await readRun({ path });
  const { data: newest } = await runs({ query: { limit: 1 } });
  const { error } = await cancel({ path });
  return [
    state === "succeeded",
    ended?.state,
    ended?.dry_run,
    newest?.map((each) => each.id === path.id),
    error?.status,
    error && "run" in error && error.run.state,
  ];
}

const calls = { filtered, unchanged, one, missing, refused, run };
const results: Record<string, unknown> = {};
for (const [name, call] of Object.entries(calls)) {
  results[name] = await call();
}
console.log(JSON.stringify(results));
