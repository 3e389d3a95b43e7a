// The table's columns as the API describes them: names, kinds, descriptions. None is known here.
import { get } from "./api.js";

/** Parameters of the API that are no columns. */
const RESERVED = ["select", "order", "limit", "offset", "after", "count", "format", "bom", "facet"];

/** Filters that are of several columns; a column of such a name is in quotes too. */
const JUNCTIONS = ["or", "and", "not.or", "not.and"];

let reading = null;

/** {about, columns}; each column is {name, kind, nullable, about}, with whether it is of the key,
 is no list or row, and has few values. Read once, or `again`. */
export function readColumns(again = false) {
  if (again) reading = null;
  reading ??= get("openapi.json").then(describe);
  reading.catch(() => (reading = null));
  return reading;
}

function describe(document) {
  const { description = "", properties, ...own } = document.components.schemas.Feature;
  const columns = Object.entries(properties).map(([name, schema]) => {
    const types = [schema.type].flat();
    const about = schema.description ?? "";
    const nullable = types.includes("null");
    const isKey = own["x-key"].includes(name);
    const isScalar = !["array", "object", undefined].some((each) => types.includes(each));
    const hasFewValues = own["x-facets"].includes(name);
    return { name, kind: kindOf(types, schema), nullable, about, isKey, isScalar, hasFewValues };
  });
  return { about: description, columns };
}

/** What may be asked of a column: number, text, date, moment, boolean or other. */
function kindOf(types, schema) {
  if (types.includes("integer") || types.includes("number")) return "number";
  if (types.includes("boolean")) return "boolean";
  if (!types.includes("string") || schema.enum) return "other";
  return { date: "date", "date-time": "moment", undefined: "text" }[schema.format] ?? "other";
}

/** A column's name as the query string has it: in quotes where it must be. */
export function asParameter(name) {
  return [...RESERVED, ...JUNCTIONS].includes(name) || !/^\w[\w$ ]*(?<! )$/.test(name)
    ? `"${name.replace(/["\\]/g, "\\$&")}"`
    : name;
}

/** The name that a parameter means; null where it means no column. */
export function asName(parameter) {
  if (RESERVED.includes(parameter)) return null;
  return parameter.startsWith('"') ? parameter.slice(1, -1).replace(/\\(.)/g, "$1") : parameter;
}

/** The elements between commas, each as it stands there. */
export const split = (list) => list.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? [];
