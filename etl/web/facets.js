// Facets above the table: the commonest values of columns, each a filter at a press.
import { Problem, ask, problemNote } from "./api.js";
import { readColumns } from "./columns.js";
import { fill, find, h } from "./dom.js";
import { count, decimal } from "./format.js";

/** Values of a facet at first, after a press, after the next; the API gives no more. */
const STEPS = [10, 100, 1000];

/** Characters of a value that fit beside its count. */
const SHORT = 20;

const NONE = "No column is known to have few values that repeat; a run finds out at its end.";

/** Reads facets while they are open: those of columns with few values, and those of `view`. */
export function createFacets(view) {
  const [panel, box, form, choice] = ["facets", "facet-lists", "facet", "facet-column"].map(find);
  let latest = null; // the arguments of the last show
  let shown = null; // of what the facets are that are visible
  let loading = new AbortController();

  panel.addEventListener("toggle", () => latest && load(...latest));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    view.showFacets([...view.facets(), choice.value]);
  });

  /** Takes the table's columns, what they are `of`, and the signal of the view. */
  function show(columns, of, signal) {
    latest = [columns, of, signal];
    if (!panel.open && view.facets().length) panel.open = true; // it toggles, and loads
    else load(...latest);
  }

  /** A load ends the one before, and ends with the view that it is for. */
  async function load(columns, tableOf, ofView) {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    ofView.addEventListener("abort", loading.abort.bind(loading));
    const of = `${tableOf} ${view.facets()}`;
    box.removeAttribute("aria-busy");
    if (!panel.open || shown === of) return;
    box.setAttribute("aria-busy", "true");
    try {
      const chosen = await choose(columns);
      const facets = chosen.length ? await read(chosen, STEPS[0], signal) : {};
      if (signal.aborted) return;
      offer(columns.filter((each) => each.isScalar && !each.isKey && !(each.name in facets)));
      keepFocus(() => fill(box, chosen.length ? chosen.map((each) => list(each, facets)) : none()));
      shown = of;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      fill(box, problemNote(problem, button("Try again", () => load(...latest))));
      shown = null;
    }
    box.removeAttribute("aria-busy");
  }

  /** Columns with few values, asked again where there is none, since a run's end finds them; and
   those that one has added. */
  async function choose(columns) {
    const isKnown = columns.some((column) => column.hasFewValues);
    const found = isKnown ? columns : (await readColumns(true)).columns;
    const added = view.facets();
    return found.filter((each) => each.hasFewValues || (each.isScalar && added.includes(each.name)));
  }

  async function read(columns, values, signal) {
    const answer = await ask(view.facetPath(columns, values), { signal });
    return JSON.parse(await answer.text(), exactly).facets;
  }

  function offer(columns) {
    form.hidden = !columns.length;
    const { value } = choice;
    const option = ({ name }) => h("option", { selected: name === value }, name);
    fill(choice, columns.map(option));
  }

  function list(column, facets, step = 0) {
    const { values, distinct, truncated } = facets[column.name];
    const most = values[0]?.count;
    const names = column.name.split(/(?<=_)/).flatMap((part) => [part, h("wbr")]);
    const element = h(
      "div",
      { class: "facet", role: "group", "aria-label": column.name },
      h("div", { class: "facet-name" }, h("h3", {}, names), !column.hasFewValues && away(column)),
    );
    const items = values.map((each) => h("li", {}, valueButton(column, each, most)));
    const rest = truncated && h("p", { class: "soft" }, `${count(distinct - values.length)} more values `);
    if (rest && STEPS[step + 1]) rest.append(button("Show more", more, { class: "link" }));
    element.append(...(items.length ? [h("ul", {}, items)] : [h("p", { class: "soft" }, "No rows")]));
    if (rest) element.append(rest);

    async function more() {
      try {
  const found = await read([column], STEPS[step + 1], loading.signal);
        const next = list(column, found, step + 1);
        element.replaceWith(next);
        next.querySelectorAll("li button")[values.length]?.focus();
      } catch (problem) {
        if (problem.name === "AbortError") return;
        if (!(problem instanceof Problem)) throw problem;
        element.append(problemNote(problem));
      }
    }

    return element;
  }

  function valueButton(column, { value, count: rows }, most) {
    const condition = asked(column, value);
    const element = button("", press, { "data-facet": `${column.name} ${condition}` });

    function press() {
      view.toggleFilter(column.name, condition);
      mark(); // at once: to count again takes a moment
    }

    function mark() {
      element.setAttribute("aria-pressed", view.hasFilter(column.name, condition));
    }

    mark();
    element.style.setProperty("--share", `${(100 * rows) / most}%`);
    const text = label(value);
    const isNone = value === null || value === "";
    element.append(
      h("span", { class: isNone && "none", title: text.length > SHORT && text }, text),
      " ",
      h("span", { class: "number" }, count(rows), h("span", { class: "unseen" }, " rows")),
    );
    return element;
  }

  /** Takes an added facet away. */
  const away = ({ name }) =>
    button("×", () => view.showFacets(view.facets().filter((each) => each !== name)), {
      "aria-label": `Remove the facet ${name}`,
    });

  function clear() {
    shown = null;
    fill(box);
  }

  /** The focus stays at the value that was pressed, though its button is another then. */
  function keepFocus(replace) {
    const focused = box.contains(document.activeElement) ? document.activeElement : null;
    replace();
    if (!focused) return;
    const buttons = [...box.querySelectorAll("button")];
    const { facet } = focused.dataset;
    const same = facet && buttons.find((each) => each.dataset.facet === facet);
    (same ?? panel.querySelector("summary")).focus();
  }

  const none = () => [
    h("p", { class: "soft" }, NONE),
    button("Look again", () => load(...latest)),
  ];

  return { show, clear };
}

const button = (text, press, attributes = {}) =>
  h("button", { type: "button", onclick: press, ...attributes }, text);

/** A number that JavaScript would write in another way stays as it was sent. */
const exactly = (_, value, context) =>
  typeof value === "number" && context && String(value) !== context.source ? context.source : value;

/** The condition of rows that have a value, as the API is asked. */
function asked(column, value) {
  if (value === null) return "is.null";
  return column.kind === "boolean" ? `is.${value}` : `eq.${value}`;
}

function label(value) {
  if (typeof value === "number") return decimal(value);
  return value === "" ? "empty" : String(value);
}
