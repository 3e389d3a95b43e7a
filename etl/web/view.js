// What the table shows, kept in the page's query string with the API's parameters.
import { asName, asParameter, split } from "./columns.js";

/** Rows of a page, unless the address says otherwise, and at most. */
const LIMIT = 25;
const MOST = 1000;

/** The view that the address names; `changed` is called when it names another. */
export function createView(changed) {
  let query = new URLSearchParams();
  let places = []; // those of the pages before this one, as far as one came here by them
  read();
  addEventListener("popstate", () => {
    const [before, kept] = [String(query), places];
    read();
    if (String(query) !== before) changed();
    else if (!history.state) stay(kept); // one has followed a link within the page
  });

  function stay(kept) {
    places = kept;
    history.replaceState({ places }, "");
  }

  function read() {
    places = history.state?.places ?? [];
    query = new URLSearchParams(location.search);
    query.delete("count");
    query.delete("format");
  }

  function go(next, before) {
    const text = String(next);
    history.pushState({ places: before }, "", text ? `?${text}` : location.pathname);
    read();
    changed();
  }

  function withPlace(after) {
    const next = new URLSearchParams(query);
    next.delete("after");
    if (after) next.set("after", after);
    return next;
  }

  /** Goes to a changed view, on its first page. */
  function change(edit) {
    const next = withPlace(null);
    edit(next);
    go(next, []);
  }

  const filters = () => [...query].filter(([name]) => asName(name) !== null);
  const find = (name, text) => filters().find(([each, it]) => asName(each) === name && it === text);
  const pageSize = () => Math.min(Number(query.get("limit")) || LIMIT, MOST);

  return {
    filters,
    pageSize,
    isFirst: () => !query.has("after"),
    canGoBack: () => places.length > 0,
    /** How many rows stand before this page; null where one came here by a link. */
    before: () => (query.has("after") && !places.length ? null : places.length * pageSize()),

    /** What the API is asked: for this page, for the number of rows, for all rows. */
    pagePath() {
      const page = new URLSearchParams(query);
      page.set("limit", pageSize());
      page.delete("facet");
      return `features?${page}`;
    },
    countPath() {
      const count = new URLSearchParams(filters());
      count.set("limit", 1);
      count.set("count", "true");
      return `features?${count}`;
    },
    /** What it is asked for the values of columns, and for the sums of others. */
    facetPath(columns, values) {
      const facets = new URLSearchParams(filters());
      facets.set("facet", columns.map((column) => asParameter(column.name)).join(","));
      facets.set("limit", values);
      return `features?${facets}`;
    },
    sumsPath(columns) {
      const sums = new URLSearchParams(filters());
      const select = columns.map(({ name }, index) => `sum_${index}:${asParameter(name)}.sum()`);
      sums.set("select", select.join(","));
      return `features?${sums}`;
    },
    allPath(format) {
      const all = withPlace(null);
      all.delete("limit");
      all.delete("facet");
      if (format) all.set("format", format);
      return String(all) ? `features?${all}` : "features";
    },
    here: () => location.search || location.pathname,

    forward: (next) => go(withPlace(next), [...places, query.get("after") ?? ""]),
    back: () => go(withPlace(places.at(-1)), places.slice(0, -1)),
    first: () => go(withPlace(null), []),
    all: () => go(new URLSearchParams(), []),
    resize: (size) => change((next) => next.set("limit", size)),

    addFilter: (name, text) => change((next) => next.append(asParameter(name), text)),
    removeFilter: (parameter, text) => change((next) => next.delete(parameter, text)),
    hasFilter: (name, text) => Boolean(find(name, text)),
    /** Adds a filter, or removes it where it is in use. */
    toggleFilter(name, text) {
      const [parameter] = find(name, text) ?? [];
      change((next) => {
        if (parameter) next.delete(parameter, text);
        else next.append(asParameter(name), text);
      });
    },
    removeFilters: () =>
      change((next) => {
        for (const [name] of filters()) next.delete(name);
      }),

    /** The first column of the order, and its direction. */
    order() {
      const [term] = split(query.get("order") ?? "");
      const [, name, isDown] = /^("(?:[^"\\]|\\.)*"|[^.]*)(\.desc)?/.exec(term ?? "") ?? [];
      return name
        ? { name: asName(name) ?? name, direction: isDown ? "descending" : "ascending" }
        : {};
    },
    orderBy(column, direction) {
      const name = asParameter(column.name);
      const nulls = column.nullable ? ".nullslast" : "";
      change((next) => {
        if (direction === "none") next.delete("order");
        else next.set("order", direction === "ascending" ? name : `${name}.desc${nulls}`);
      });
    },

    /** The columns whose facets one has added. */
    facets: () => split(query.get("facet") ?? "").map((each) => asName(each) ?? each),
    showFacets: (names) =>
      change((next) => {
        next.delete("facet");
        if (names.length) next.set("facet", names.map(asParameter).join(","));
      }),

    /** Those of these columns that are visible, in their order. */
    visible(columns) {
      const selected = query.get("select");
      if (!selected || selected === "*") return columns;
      const byName = new Map(columns.map((column) => [column.name, column]));
      return split(selected)
        .map((each) => byName.get(asName(each) ?? each))
        .filter(Boolean);
    },
    show(names, columns) {
      change((next) => {
        next.delete("select");
        const isSome = names.length && names.length < columns.length;
        if (isSome) next.set("select", names.map(asParameter).join(","));
      });
    },
  };
}
