// The section Features: reads a page of the table, and says what there is to say of it.
import { Problem, ask, guardDownload, nextPlace, problemNote, read } from "./api.js";
import { readColumns } from "./columns.js";
import { fill, find, h, announce } from "./dom.js";
import { createFacets } from "./facets.js";
import { createGrid } from "./grid.js";
import { createSums } from "./sums.js";
import { createTools } from "./tools.js";
import { createView } from "./view.js";
import { count } from "./format.js";

const LIMITS = [10, 25, 50, 100, 250];

/** `start` begins a run: offered where there is nothing to see yet. */
export function featuresSection({ start }) {
  const [message, status, box, limit] = ["features-message", "features-status", "rows", "limit"].map(find);
  const [next, previous, first] = ["next", "previous", "first"].map(find);
  const view = createView(load);
  const grid = createGrid(box, view.orderBy);
  const tools = createTools(view);
  const [facets, sums] = [createFacets(view), createSums(view, grid)];
  let following = null; // the cursor of the next page
  let loading = new AbortController();
  let counted = { of: null, total: null };

  limit.addEventListener("change", () => view.resize(limit.value));
  next.addEventListener("click", () => view.forward(following));
  previous.addEventListener("click", view.back);
  first.addEventListener("click", view.first);
  guardDownload(find("as-csv"));
  guardDownload(find("as-json"));

  /** Reads the page again; after `isNews`, the columns too. */
  async function load(isNews = false) {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    box.setAttribute("aria-busy", "true");
    try {
      const described = readColumns(isNews);
      described.catch(() => {}); // reported below, unless the rows fail too
      const answer = await ask(view.pagePath(), { signal });
      const rows = await read(answer);
      const table = await described;
      if (signal.aborted) return;
      following = nextPlace(answer);
      show(table, rows, answer.headers.has("X-Run-Id"));
      const tag = answer.headers.get("ETag");
      const of = `${tag?.split("-", 2)[0]} ${view.filters()}`; // what is published, and asked
      facets.show(table.columns, of, signal);
      sums.show(table.columns, of, signal);
      await showTotal(rows, of, signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      showProblem(problem);
    } finally {
      if (!signal.aborted) box.removeAttribute("aria-busy");
    }
  }

  /** The number of rows, asked after them: counting a million takes longer than a page. */
  async function showTotal(rows, of, signal) {
    if (!following && view.isFirst()) counted = { of, total: rows.length };
    if (counted.of !== of) {
      announce(status, range(rows, null));
      const answer = await ask(view.countPath(), { signal });
      counted = { of, total: Number(answer.headers.get("X-Total-Count")) };
    }
    announce(status, range(rows, counted.total));
  }

  function range(rows, total) {
    const of = total === null ? "" : ` of ${count(total)}`;
    if (!rows.length) return "No rows";
    const before = view.before();
    if (before === null) return `${count(rows.length)} rows${of}`;
    return `Rows ${count(before + 1)} to ${count(before + rows.length)}${of}`;
  }

  function show(table, rows, isPublished) {
    fill(message, !rows.length && nothing(isPublished));
    find("features-about").textContent = table.about;
    tools.show(table.columns);
    grid.show(view.visible(table.columns), rows, view.order());
    showFoot();
  }

  function nothing(isPublished) {
    if (view.filters().length)
      return empty(
        "No rows under these filters.",
        button("Remove all filters", view.removeFilters),
      );
    if (!view.isFirst()) return empty("No more rows: this was the last page.");
    if (isPublished) return empty("The table was published without a row.");
    return empty(
      "Nothing here yet: the table fills with the first run that succeeds.",
      button("Start a run", start),
    );
  }

  function showProblem(problem) {
    const isAsked = problem.status === 400;
    const fix = isAsked
      ? button("Show the whole table", view.all)
      : button("Try again", () => load());
    fill(message, problemNote(problem, fix));
    grid.clear();
    facets.clear();
    announce(status, "");
    following = null;
    tools.showFilters();
    showFoot();
  }

  function showFoot() {
    const size = view.pageSize();
    const sizes = [...new Set([...LIMITS, size])].sort((one, other) => one - other);
    fill(
      limit,
      sizes.map((each) => h("option", { selected: each === size }, each)),
    );
    enable(next, following !== null);
    enable(previous, view.canGoBack());
    enable(first, !view.isFirst());
    find("as-csv").href = view.allPath("csv");
    find("as-json").href = view.allPath();
    find("here").href = view.here();
  }

  return { load, loaded: load() };
}

const button = (text, press) => h("button", { type: "button", onclick: press }, text);

const empty = (text, ...actions) => h("div", { class: "empty" }, h("p", {}, text), actions);

/** Only what can be pressed is enabled; the focus is not lost where that was pressed. */
function enable(control, isUseful) {
  if (!isUseful && document.activeElement === control) find("rows").focus({ preventScroll: true });
  control.disabled = !isUseful;
}
