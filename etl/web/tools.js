// What is above the table: a form that adds a filter, those in use, the columns' menu.
import { asName } from "./columns.js";
import { fill, find, h } from "./dom.js";
import { asked, conditionsOf, inWords, needsValue, takesValue } from "./filters.js";

/** A number as the API takes it: with a point, and nothing between thousands. */
const NUMBER = "\\s*[+\\-]?(\\d+\\.?\\d*|\\.\\d+)\\s*";

/** Changes `view` as one asks for; its `show` takes the columns that there are. */
export function createTools(view) {
  const [name, operator, input] = [
    find("filter-column"),
    find("filter-operator"),
    find("filter-value"),
  ];
  const [list, menu, boxes] = [find("filters"), find("columns"), find("column-boxes")];
  let columns = [];

  name.addEventListener("change", offerConditions);
  operator.addEventListener("change", offerValue);
  find("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    const column = chosen();
    if (!column) return;
    const condition = asked(operator.value, input.value);
    input.value = "";
    view.addFilter(column.name, condition);
  });
  closeOutside(menu);

  const chosen = () => columns.find((column) => column.name === name.value);

  function offerConditions() {
    const conditions = conditionsOf(chosen());
    fill(
      operator,
      conditions.map(([id, label]) => h("option", { value: id }, label)),
    );
    offerValue();
  }

  function offerValue() {
    const { kind } = chosen();
    const isList = operator.value === "in";
    find("filter-value-label").hidden = !takesValue(operator.value);
    input.type = kind === "date" && !isList ? "date" : "text";
    const isNumber = kind === "number" && !isList;
    input.required = needsValue(operator.value, kind);
    input.pattern = isNumber ? NUMBER : ".*";
    input.title = isNumber ? "A number, such as 12 or 0.5" : "";
    input.inputMode = kind === "number" ? "decimal" : "text";
    input.placeholder = isList ? "one, another" : "";
  }

  function chip([parameter, text]) {
    const column = columns.find((each) => each.name === asName(parameter));
    const phrase = `${asName(parameter)} ${inWords(column, text)}`;
    const remove = () => {
      name.focus();
      view.removeFilter(parameter, text);
    };
    const button = { type: "button", "aria-label": `Remove the filter: ${phrase}`, onclick: remove };
    return h("li", {}, phrase, h("button", button, "×"));
  }

  function box(column) {
    const checked = view.visible(columns).includes(column);
    const input = { type: "checkbox", checked, value: column.name, onchange: select };
    return h("label", { class: "row" }, h("input", input), column.name);
  }

  function select() {
    const names = [...boxes.querySelectorAll("input:checked")].map((each) => each.value);
    view.show(names, columns);
  }

  function showFilters() {
    list.hidden = !view.filters().length;
    fill(list, view.filters().map(chip));
  }

  function show(found) {
    if (found !== columns) {
      columns = found;
      fill(
        name,
        columns.map((column) => h("option", {}, column.name)),
      );
      offerConditions();
    }
    showFilters();
    if (!boxes.contains(document.activeElement)) fill(boxes, columns.map(box));
  }

  return { show, showFilters };
}

/** Closes a menu where one goes elsewhere, or presses Escape. */
function closeOutside(menu) {
  const close = (event) => !menu.contains(event.target) && menu.removeAttribute("open");
  addEventListener("click", close);
  addEventListener("focusin", close);
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  });
}
