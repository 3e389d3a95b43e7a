// The rows of the table: headers that sort and describe their column, values as text.
import { fill, find, h } from "./dom.js";
import { breakable, value } from "./table.js";

const SIGNS = { none: "↕", ascending: "↑", descending: "↓" };

/** The next order of a column whose header is pressed. */
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

/** Shows rows in `box`; `orderBy` is called with a column and a direction. */
export function createGrid(box, orderBy) {
  let table = null;
  let visible = [];

  function header(column, index) {
    const press = (event) =>
      orderBy(column, NEXT[event.currentTarget.closest("th").getAttribute("aria-sort")]);
    const button = h(
      "button",
      {
        type: "button",
        class: "sort",
        "aria-describedby": column.about && `about-${index}`,
        "data-tip": column.about || null,
        onclick: press,
      },
      breakable(column.name),
      h("span", { class: "sign", "aria-hidden": "true" }),
    );
    return h("th", { scope: "col", class: isNumber(column) }, button);
  }

  /** Headers stay while the columns are the same, so that the focus does. */
  function make(columns) {
    visible = columns;
    const about = columns.map((column, index) => h("span", { id: `about-${index}` }, column.about));
    fill(find("descriptions"), about);
    table = h(
      "table",
      {},
      h("caption", { class: "unseen" }, "Features"),
      h("thead", {}, h("tr", {}, columns.map(header))),
      h("tbody"),
    );
    fill(box, table);
  }

  function show(columns, rows, order) {
    const isSame =
      columns.length === visible.length && columns.every((each, index) => each === visible[index]);
    if (!table || !isSame) make(columns);
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      const direction = columns[index].name === order.name ? order.direction : "none";
      cell.setAttribute("aria-sort", direction);
      cell.querySelector(".sign").textContent = SIGNS[direction];
    });
    const cells = (row) =>
      columns.map((column) => h("td", { class: isNumber(column) }, value(row[column.name])));
    fill(
      table.tBodies[0],
      rows.map((row) => h("tr", {}, cells(row))),
    );
    box.hidden = !rows.length;
  }

  /** A last row of sums by column, none for null; those that are missing are on their way. */
  function showSums(sums) {
    table?.tFoot?.remove();
    if (!table || !sums) return;
    const cell = (column) => {
      if (!sums.size) return isNumber(column) && !column.isKey && "…";
      return sums.has(column.name) && value(sums.get(column.name));
    };
    const [first, ...others] = visible;
    const about = h("span", { class: "unseen" }, " of all rows under these filters ");
    table.append(
      h(
        "tfoot",
        { "aria-busy": !sums.size && "true" },
        h(
          "tr",
          {},
          h("th", { scope: "row", class: isNumber(first) }, "Sum", about, cell(first)),
          others.map((column) => h("td", { class: isNumber(column) }, cell(column))),
        ),
      ),
    );
  }

  function clear() {
    table = null;
    fill(box);
    box.hidden = true;
  }

  return { show, showSums, clear };
}

const isNumber = (column) => column.kind === "number" && "number";
