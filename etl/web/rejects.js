// The records that a run left out, with file, line, value and reason; more on demand.
import { ask, guardDownload, nextPlace, problemNote, read } from "./api.js";
import { h } from "./dom.js";
import { row, scrolling, table, value } from "./table.js";
import { count, many } from "./words.js";

const PAGE = 10;

const COLUMNS = [
  { name: "file", cell: (it) => it.file },
  { name: "line", number: true, cell: (it) => count(it.line) },
  { name: "column", cell: (it) => it.column ?? "" },
  { name: "value", cell: (it) => (it.value === null ? "" : value(it.value)) },
  { name: "reason", cell: (it) => h("code", {}, it.reason) },
  { name: "what is wrong", cell: (it) => value(it.message) },
  { name: "record", cell: (it) => value(it.record) },
];

export const rejectedIn = (run) => run.files.reduce((sum, file) => sum + file.rejected, 0);

/** The rejects of a run; loaded by this call. */
export function rejects(run) {
  const caption = `Records that run ${run.id} left out`;
  const csv = h(
    "a",
    { href: `runs/${run.id}/rejects?format=csv`, download: `rejects-of-run-${run.id}.csv` },
    "all as CSV",
  );
  guardDownload(csv);
  const title = h(
    "p",
    {},
    h("strong", {}, `${many(rejectedIn(run), "record")} left out`),
    ", ",
    csv,
  );
  const more = h("button", { type: "button", hidden: true }, "Show more");
  const rows = h("div", {}, h("p", { class: "soft" }, "Loading …"));
  const box = h("div", { class: "rejects" }, title, rows, more);
  let body = null;

  async function load(after) {
    const place = after ? `&after=${encodeURIComponent(after)}` : "";
    try {
      const answer = await ask(`runs/${run.id}/rejects?limit=${PAGE}${place}`);
      const found = await read(answer);
      if (body) body.append(...found.map((it) => row(COLUMNS, it)));
      else {
        const made = table(caption, COLUMNS, found);
        body = made.tBodies[0];
        rows.replaceChildren(scrolling(caption, made));
      }
      const next = nextPlace(answer);
      more.hidden = !next;
      more.onclick = () => load(next);
    } catch (problem) {
      rows.append(problemNote(problem));
      more.hidden = true;
    }
  }

  load(null);
  return box;
}
