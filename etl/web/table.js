// Tables and their cells: values as text, numbers to the right, nothing left to guess.
import { h } from "./dom.js";
import { decimal } from "./format.js";

/** Characters of a value in one line, and those visible at first. */
const LINE = 40;
const SHOWN = 160;

/** Characters of a line of a column's name. */
const NAME_LINE = 13;

/** A table; each column is {name, number, cell(item)}. */
export function table(caption, columns, items) {
  return h(
    "table",
    {},
    h("caption", { class: "unseen" }, caption),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        columns.map((column) =>
          h("th", { scope: "col", class: column.number && "number" }, column.name),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      items.map((item) => row(columns, item)),
    ),
  );
}

export function row(columns, item) {
  return h(
    "tr",
    {},
    columns.map((column) => h("td", { class: column.number && "number" }, column.cell(item))),
  );
}

/** A table that may be wider than the page, and is then moved by itself. */
export function scrolling(caption, content) {
  return h(
    "div",
    { class: "scroll", role: "group", "aria-label": caption, tabindex: "0" },
    content,
  );
}

/** A value as what stands in a cell. */
export function value(it) {
  if (it === null || it === undefined) return h("span", { class: "none" }, "null");
  if (typeof it === "number") return number(it);
  if (typeof it === "object") return long(JSON.stringify(it));
  return it === "" ? h("span", { class: "none" }, "empty") : long(String(it));
}

function number(it) {
  const text = decimal(it);
  return text === String(it) ? text : h("span", { title: it }, text);
}

function long(text) {
  if (text.length <= LINE) return text;
  if (text.length <= SHOWN) return h("div", { class: "long" }, text);
  return h("details", { class: "long" }, h("summary", {}, `${text.slice(0, SHOWN)}…`), text);
}

/** A name that may be broken after underscores, into lines that are no longer than need be. */
export function breakable(name) {
  const lines = [""];
  for (const part of name.split(/(?<=_)/)) {
    if (lines.at(-1) && lines.at(-1).length + part.length > NAME_LINE) lines.push("");
    lines[lines.length - 1] += part;
  }
  return h(
    "b",
    {},
    lines.flatMap((line, index) => [index > 0 && h("wbr"), h("span", {}, line)]),
  );
}

/** A hash, of which the first characters are visible. */
export const hash = (sha256) => h("code", { title: sha256 }, sha256.slice(0, 12));
