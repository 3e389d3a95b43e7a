// A run's record: its state in a word, its files, SQL files, warnings and error.
import { announce, h } from "./dom.js";
import { hash, scrolling, table } from "./table.js";
import { ago, bytes, count, moment, seconds } from "./format.js";

/** How often "2 minutes ago" is looked at. */
const TIMES_MILLISECONDS = 5000;

/** A sign beside the word, so that nothing depends on colour alone. */
const SIGNS = { running: "▶", succeeded: "✓", failed: "✕", interrupted: "‖" };

export const state = (run) =>
  h(
    "span",
    { class: `state ${run.state}` },
    h("span", { "aria-hidden": "true" }, `${SIGNS[run.state] ?? "?"} `),
    run.state,
  );

export const time = (date) => h("time", { datetime: date, title: moment(date) }, ago(date));

/** Keeps the times of the page right while it is open. */
export function keepTimes() {
  setInterval(() => {
    if (document.hidden) return;
    for (const each of document.querySelectorAll("time")) announce(each, ago(each.dateTime));
  }, TIMES_MILLISECONDS);
}

/** Whether a run succeeded, and neither files nor SQL had changed. */
export const isUnchanged = (run) => run.state === "succeeded" && run.unchanged;

/** What a run did with a file: "kept", "12 appended", "loaded". */
export const load = (file) =>
  file.load === "appended" ? `${count(file.records_loaded)} appended` : file.load;

const FILES = [
  { name: "file", cell: (it) => it.file },
  { name: "records", number: true, cell: (it) => count(it.records) },
  { name: "this run", number: true, cell: (it) => (it.load === "kept" ? idle("kept") : load(it)) },
  { name: "left out", number: true, cell: (it) => count(it.rejected) },
  { name: "size", number: true, cell: (it) => bytes(it.bytes) },
];

const STEPS = [
  { name: "SQL file", cell: (it) => it.file },
  { name: "rows", number: true, cell: (it) => count(it.rows) },
  { name: "time", number: true, cell: (it) => (it.kept ? idle("not needed") : seconds(it.milliseconds / 1000)) },
  { name: "SHA-256", cell: (it) => hash(it.sha256) },
];

/** Says of a file that a run did nothing with it. */
const idle = (text) => h("span", { class: "none" }, text);

/** The files of a run, with their hashes or without. */
export function files(run, hashes = false) {
  if (!run.files.length) return null;
  const columns = hashes
    ? [...FILES, { name: "SHA-256", cell: (it) => (it.sha256 ? hash(it.sha256) : "") }]
    : FILES;
  return scrolling(`Files of run ${run.id}`, table(`Files of run ${run.id}`, columns, run.files));
}

/** The SQL files of a run, those that it did not need to run among them. */
export function steps(run) {
  if (!run.steps.length) return null;
  return scrolling(
    `SQL files of run ${run.id}`,
    table(`SQL files of run ${run.id}`, STEPS, run.steps),
  );
}

/** What went wrong, and what may. */
export function notes(run) {
  return [
    run.error && h("div", { class: "note bad" }, h("p", {}, h("strong", {}, "Error: "), run.error)),
    ...run.warnings.map((warning) =>
      h("div", { class: "note warn" }, h("p", {}, h("strong", {}, "Warning: "), warning)),
    ),
  ];
}

/** "Run 7 succeeded in 1.2 s, 3 minutes ago"; an unchanged one did nothing that took time. */
export function headline(run) {
  const when = run.finished_at ?? run.started_at;
  const kinds = [run.dry_run && "dry", run.allow_empty && "empty files allowed", run.full_run && "everything again"];
  const kind = kinds.filter(Boolean).join(", ");
  return h(
    "p",
    { class: "headline" },
    h("strong", {}, `Run ${run.id}${kind && ` (${kind})`} `),
    state(run),
    run.seconds === null || isUnchanged(run) ? " " : ` in ${seconds(run.seconds)}, `,
    time(when),
  );
}
