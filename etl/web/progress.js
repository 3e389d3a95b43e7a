// A run in progress: a bar for its phases, and one for each file.
import { fill, h } from "./dom.js";
import { load } from "./record.js";
import { bytes, clock, count, many, seconds } from "./format.js";

/** The phases in their order, and what each does. */
export const PHASES = {
  load: "Loading the files",
  clean: "Leaving out what breaks a rule",
  build: "Building the table",
  check: "Checking the table",
  publish: "Publishing the table",
};

const NAMES = Object.keys(PHASES);

const TICK_MILLISECONDS = 100;

/** A view of the progress of a run: `show` takes each state, `stop` ends its clock. */
export function progressView(id) {
  const headline = h("p", { class: "headline" });
  const phases = h(
    "ol",
    { class: "phases" },
    NAMES.map((name) =>
      h("li", {}, h("span", { "aria-hidden": "true" }), name, h("span", { class: "unseen" })),
    ),
  );
  const bar = h("progress", { max: NAMES.length, value: 0, "aria-label": "Phases" });
  const files = h("div", { class: "files" });
  const doing = h("p", { class: "soft" });
  const bars = new Map();
  const spent = h("span", { class: "said" });
  const begun = h("span");
  let began = performance.now(); // by this machine's clock
  const tick = () => (spent.textContent = clock((performance.now() - began) / 1000));
  const ticking = setInterval(tick, TICK_MILLISECONDS);
  fill(headline, h("strong", {}, `Run ${id} `), begun, spent);

  function show(state) {
    if (state === null) {
      doing.textContent = "The connection is lost: trying again …";
      return;
    }
    const at = NAMES.indexOf(state.phase);
    begun.textContent = `${PHASES[state.phase] ?? "Beginning"} … `;
    began = performance.now() - (state.seconds ?? 0) * 1000;
    tick();
    [...phases.children].forEach((item, index) => showPhase(item, index, at));
    bar.value = Math.max(at, 0) + (state.phase === "load" ? share(state.bytes, state.total_bytes) : 0);
    for (const file of state.files) showFile(file);
    doing.textContent = now(state);
  }

  function showFile(file) {
    if (!bars.has(file.file)) {
      const name = h("span", { class: "name" }, file.file);
      const line = h("progress", { max: 1, value: 0, "aria-label": file.file });
      const said = h("span", { class: "said" });
      bars.set(file.file, { line, said });
      files.append(name, line, said);
    }
    const { line, said } = bars.get(file.file);
    const rejected = file.rejected ? `, ${count(file.rejected)} left out` : "";
    const done = file.load === "loaded" ? "" : `, ${load(file)}`;
    line.value = share(file.bytes, file.total_bytes);
    said.textContent = `${bytes(file.bytes)} of ${bytes(file.total_bytes)}, ${many(file.records, "record")}${done}${rejected}`;
  }

  show({ phase: null, seconds: 0, files: [], steps: [], file: null });
  return {
    element: h("div", { class: "progress" }, headline, bar, phases, files, doing),
    show,
    stop: () => clearInterval(ticking),
  };
}

function showPhase(item, index, at) {
  const [sign, , said] = item.childNodes;
  const where = index < at ? "done" : index === at ? "now" : "later";
  item.className = where;
  sign.textContent = { done: "✓ ", now: "▶ ", later: "" }[where];
  said.textContent = { done: ", done", now: ", in progress", later: ", to come" }[where];
}

/** What is worked on, and what was done last. */
function now(state) {
  if (state.phase === "load") return `${many(state.rows ?? 0, "good record")} so far`;
  const last = state.steps.at(-1);
  const done = last ? `${last.file}: ${outcome(last)}` : "";
  return state.file && state.file !== last?.file ? `${state.file} …` : done;
}

const outcome = (step) =>
  step.kept
    ? "not needed, nothing has changed for it"
    : `${many(step.rows, "row")} in ${seconds(step.milliseconds / 1000)}`;

const share = (part, whole) => (whole ? Math.min(part / whole, 1) : 1);
