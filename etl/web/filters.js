// Conditions on columns: as text for people, as operator.value for the API.
import { split } from "./columns.js";

const COMPARE = {
  number: {
    eq: "is",
    neq: "is not",
    gt: "is more than",
    gte: "is at least",
    lt: "is less than",
    lte: "is at most",
  },
  date: {
    eq: "is",
    neq: "is not",
    gt: "is after",
    gte: "is on or after",
    lt: "is before",
    lte: "is on or before",
  },
  text: { contains: "contains", begins: "begins with", eq: "is", neq: "is not" },
  boolean: { "is.true": "is true", "is.false": "is false" },
  other: { eq: "is", neq: "is not" },
};
COMPARE.moment = COMPARE.date;

const NULLS = { "is.null": "is null", "is.not_null": "is not null" };

/** The conditions that a column can have: [id, label]. */
export function conditionsOf(column) {
  const list = column.kind === "boolean" ? {} : { in: "is one of" };
  const nulls = column.nullable ? NULLS : {};
  return Object.entries({ ...COMPARE[column.kind], ...list, ...nulls });
}

export const takesValue = (id) => !id.startsWith("is.");

/** Whether the value may not be empty: only a text can be. */
export const needsValue = (id, kind) =>
  takesValue(id) && !(kind === "text" && ["eq", "neq"].includes(id));

/** The condition as the API is asked. */
export function asked(id, value) {
  if (!takesValue(id)) return id;
  if (id === "contains") return `ilike.*${escaped(value)}*`;
  if (id === "begins") return `ilike.${escaped(value)}*`;
  if (id === "in")
    return `in.(${elements(value).join(",")})`;
  return `${id}.${value}`;
}

/** A condition of the API as text, unchanged if it has none. */
export function inWords(column, text) {
  const [, id, value] = /^([a-z]+)\.([^]*)$/.exec(text) ?? [];
  const labels = { ...COMPARE[column?.kind ?? "other"], ...NULLS };
  if (labels[text]) return labels[text];
  if (id === "in") return `is one of ${split(value.slice(1, -1)).join(", ")}`;
  if (id === "ilike") {
    const [, before, literal, after] = /^(\*?)((?:[^*%_\\]|\\.)*)(\*?)$/.exec(value) ?? [];
    const name = literal && after && (before ? "contains" : "begins with");
    if (name) return `${name} “${literal.replace(/\\(.)/g, "$1")}”`;
  }
  if (labels[id]) return `${labels[id]} ${column?.kind === "text" ? `“${value}”` : value}`;
  return text;
}

/** A text of which no character means another; for * there is only the sign for any one. */
const escaped = (text) => text.replace(/[\\%_]/g, "\\$&").replace(/\*/g, "_");

/** What stands between commas, and in quotes where it has some itself, as the API wants it. */
const elements = (list) =>
  [...list.matchAll(/\s*("(?:[^"\\]|\\.)*"|[^\s,][^,]*?)\s*(?:,|$)/g)].map(([, text]) =>
    /^".*"$/.test(text) ? text : quoted(text),
  );

const quoted = (text) =>
  /^[^",()\\\s]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`;
