// Calls of openapi-fetch, with types that openapi-typescript has made of the document in
// features.ts. Prints what each came to, by a name for it, as JSON.

import createClient from "openapi-fetch";
import type { components, paths } from "./features.js";

declare const process: { argv: string[] };
const [, , baseUrl, token] = process.argv;

// The media types that count here: the rows are also given as CSV, which is a string.
type Json = "application/json" | "application/problem+json";
const headers = { Authorization: `Bearer ${token}` };
const service = createClient<paths, Json>({ baseUrl, headers });

type Feature = components["schemas"]["Feature"];
type Problem = components["schemas"]["Problem"];

async function filtered() {
  const { data, response } = await service.GET("/features", {
    params: {
      query: {
        select: ["user_id", "who:name"],
        user_id: ["gte.1", "lte.4"],
        name: ["ilike.*a*"],
        "not.or": ["(user_id.eq.3,user_id.eq.4)"],
        '"a.b, \\"c\\" (d)"': ["is.null"],
        order: ["name.desc", "user_id"],
        limit: 1,
      },
      header: { Prefer: "count=exact" },
    },
  });
  const rows: Feature[] = Array.isArray(data) ? data : []; // with facet an object
  return [response.status, response.headers.get("Content-Range"), rows];
}

async function unchanged() {
  const first = await service.GET("/features");
  const etag = first.response.headers.get("ETag") ?? "";
  const { response } = await service.GET("/features", {
    params: { header: { "If-None-Match": etag } },
  });
  return [Array.isArray(first.data) && first.data.length, response.status];
}

async function one() {
  const { data } = await service.GET("/features/{key}", {
    params: { path: { key: "1" }, query: { select: ["name"] } },
  });
  const name: string | null | undefined = data?.name;
  return name;
}

async function missing() {
  const { data, error, response } = await service.GET("/features/{key}", {
    params: { path: { key: "99" } },
  });
  if (data) throw new Error("there is no such row");
  const problem: Problem = error;
  return [response.status, problem.status, problem.code];
}

async function refused() {
  const { error } = await service.GET("/features", {
    params: { query: { select: ["nobody"] } },
  });
  return [error?.status, error?.code, error?.message];
}

// A dry run, followed to its end.
async function run() {
  const { data } = await service.POST("/trigger_etl", {
    params: { query: { wait: false } },
    body: { dry_run: true },
  });
  const id = data?.run?.id ?? 0;
  const params = { path: { id } };
  const { data: events } = await service.GET("/runs/{id}/events", {
    params,
    parseAs: "text",
  });
  const { data: ended } = await service.GET("/runs/{id}", { params });
  const { data: newest } = await service.GET("/runs", {
    params: { query: { limit: 1 } },
  });
  const { error } = await service.POST("/runs/{id}/cancel", { params });
  return [
    events?.includes("\nevent: end\n"),
    ended?.state,
    ended?.dry_run,
    newest?.map((each) => each.id === id),
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
