// The section Charts: draws what each of the API's charts gives, once it comes into sight.
import { Problem, get, problemNote } from "./api.js";
import { fill, find, h } from "./dom.js";
import { table, scrolling } from "./table.js";
import { decimal } from "./format.js";

/** Characters of a label that fits below its bar; else bars go across, each so many pixels. */
const SHORT_LABEL = 9;
const ACROSS_HEIGHT = 28;

const NONE = "There are no charts: a chart is a query in the folder sql/charts.";

const scheme = matchMedia("(prefers-color-scheme: dark)");
let library = null;

export function chartsSection() {
  const box = find("figures");
  let figures = [];
  const sight = new IntersectionObserver(
    (entries) =>
      entries
        .filter((entry) => entry.isIntersecting)
        .forEach(({ target }) => figures.find((it) => it.element === target)?.load()),
    { rootMargin: "200px" },
  );
  scheme.addEventListener("change", () => figures.forEach((each) => each.draw()));

  async function load() {
    try {
      const charts = await get("charts");
      sight.disconnect();
      figures.forEach((each) => each.destroy());
      figures = charts.map(figure);
      fill(
        box,
        figures.map((each) => each.element),
      );
      figures.forEach((each) => sight.observe(each.element));
      if (!charts.length) fill(box, h("p", { class: "card empty" }, NONE));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(box, h("div", { class: "card" }, problemNote(problem)));
    }
  }

  return { load, loaded: load() };
}

/** One chart: loaded once it is seen, redrawn when the colours change. */
function figure({ name, title, description }) {
  const body = h("div", { class: "chart-box" }, h("p", { class: "soft" }, "Loading …"));
  const element = h(
    "figure",
    { class: "card" },
    h("figcaption", {}, h("h3", {}, title), h("p", { class: "soft" }, description)),
    body,
  );
  let [chart, canvas, points, begun] = [null, null, [], false];

  async function load() {
    if (begun) return;
    begun = true;
    try {
      const [found] = await Promise.all([get(`charts/${encodeURIComponent(name)}`), readLibrary()]);
      points = found.points.map(({ label, value }) => ({ label, value: value && Number(value) }));
      show();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(body, problemNote(problem));
    }
  }

  function show() {
    if (!points.length) {
      fill(body, h("p", { class: "empty" }, "Nothing to draw yet: the table has no rows for it."));
      return;
    }
    canvas = h("canvas", { role: "img", "aria-label": summary(title, points) });
    const columns = [
      { name: "label", cell: (point) => point.label ?? "none" },
      {
        name: "value",
        number: true,
        cell: (point) => (point.value === null ? "none" : decimal(point.value)),
      },
    ];
    const numbers = h(
      "details",
      {},
      h("summary", {}, "As a table"),
      scrolling(title, table(title, columns, points)),
    );
    fill(body, h("div", { class: "canvas" }, canvas), numbers);
    draw();
  }

  function draw() {
    if (!canvas) return;
    chart?.destroy();
    const isAcross = points.some((point) => (point.label ?? "").length > SHORT_LABEL);
    canvas.parentElement.style.flexBasis = isAcross
      ? `${Math.max(points.length, 7) * ACROSS_HEIGHT + 44}px`
      : "";
    chart = new window.Chart(canvas, options(points, isAcross));
  }

  return { element, load, draw, destroy: () => chart?.destroy() };
}

function options(points, isAcross) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const [values, labels] = isAcross ? ["x", "y"] : ["y", "x"];
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  const ticks = { color: colour("--soft"), font };
  const precision = points.every((point) => Number.isInteger(point.value)) ? 0 : undefined;
  return {
    type: "bar",
    data: {
      labels: points.map((point) => point.label ?? "none"),
      datasets: [
        {
          data: points.map((point) => point.value),
          backgroundColor: colour("--bar"),
          borderRadius: 3,
          maxBarThickness: 44,
        },
      ],
    },
    options: {
      indexAxis: labels,
      animation: false,
      maintainAspectRatio: false,
      plugins: { legend: { display: false }, tooltip: { displayColors: false } },
      scales: {
        [values]: {
          beginAtZero: true,
          ticks: { ...ticks, precision, maxTicksLimit: 6 },
          grid: { color: colour("--line") },
          border: { display: false },
        },
        [labels]: {
          ticks: { ...ticks, maxRotation: 60, autoSkip: !isAcross, callback: cut },
          grid: { display: false },
          border: { color: colour("--line") },
        },
      },
    },
  };
}

/** A label that leaves room for the bars; the table has it whole. */
function cut(index) {
  const label = this.getLabelForValue(index);
  return label.length > 24 ? `${label.slice(0, 23)}…` : label;
}

function summary(title, points) {
  const most = points.reduce((one, other) => (other.value > one.value ? other : one));
  return `${title}: a bar chart of ${points.length}, the highest is ${most.label ?? "none"} with ${decimal(most.value ?? 0)}. The numbers are in the table below.`;
}

/** The drawing library, loaded when it is needed, since it is large. */
function readLibrary() {
  library ??= new Promise((resolve, reject) => {
    const lost = () => reject(new Problem(0, "The chart library cannot be loaded."));
    document.head.append(
      h("script", {
        src: new URL("vendor/chart.js/chart.umd.min.js", import.meta.url),
        onload: resolve,
        onerror: lost,
      }),
    );
  });
  library.catch(() => (library = null));
  return library;
}
