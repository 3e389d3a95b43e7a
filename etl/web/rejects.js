// The records that a run left out, with file, line, value and reason: all, or those with
// one reason; more on demand.
import { ask, guardDownload, nextPlace, problemNote, read } from "./api.js";
import { h } from "./dom.js";
import { row, scrolling, table, value } from "./table.js";
import { count, many } from "./format.js";

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

/** How many records were left out for which reason, in all files together. */
function reasonsOf(run) {
  const counts = new Map();
  for (const file of run.files) {
    for (const [reason, records] of Object.entries(file.rejected_by_reason ?? {})) {
      counts.set(reason, (counts.get(reason) ?? 0) + records);
    }
  }
  return [...counts];
}

/** A choice of one reason, or of all; null where there are not two. */
function reasonChoice(reasons, total) {
  if (reasons.length < 2) return null;
  return h(
    "select",
    {},
    h("option", { value: "" }, `any (${count(total)})`),
    reasons.map(([reason, records]) =>
      h("option", { value: reason }, `${reason} (${count(records)})`),
    ),
  );
}

/** Links to the records of each file as they are in it, and what to do with them. */
function downloads(run) {
  const links = run.files.filter((file) => file.rejected > 0).map((file) => download(run, file));
  return h(
    "p",
    {},
    "Download these lines as CSV: ",
    links.flatMap((link, index) => [index > 0 && ", ", link]),
    ". Correct them, and drop that file on this page: its records take the place of the bad ones.",
  );
}

function download(run, { file }) {
  const link = h(
    "a",
    {
      href: `runs/${run.id}/rejects/${encodeURIComponent(file)}`,
      download: `${file.replace(/\.csv$/, "")}.rejects.csv`,
    },
    file,
  );
  guardDownload(link);
  return link;
}

/** The rejects of a run; loaded by this call. */
export function rejects(run) {
  const caption = `Records that run ${run.id} left out`;
  const csv = h(
    "a",
    { href: `runs/${run.id}/rejects?format=csv`, download: `rejects-of-run-${run.id}.csv` },
    "this list as CSV",
  );
  guardDownload(csv);
  const left = rejectedIn(run);
  const reasons = reasonsOf(run);
  const only = reasonChoice(reasons, left);
  const title = h(
    "p",
    {},
    h("strong", {}, `${many(left, "record")} left out`),
    reasons.length > 0 && ": ",
    reasons.map(([reason, records]) => `${count(records)} ${reason}`).join(", "),
    "; ",
    csv,
  );
  const more = h("button", { type: "button", hidden: true }, "Show more");
  const rows = h("div", {}, h("p", { class: "soft" }, "Loading …"));
  const box = h(
    "div",
    { class: "rejects" },
    title,
    downloads(run),
    only && h("label", { class: "row" }, "Reason ", only),
    rows,
    more,
  );
  let body = null;
  only?.addEventListener("change", () => {
    body = null;
    const query = reasonQuery();
    csv.setAttribute("href", `runs/${run.id}/rejects?format=csv${query}`);
    load(null);
  });

  const reasonQuery = () => (only?.value ? `&reason=${encodeURIComponent(only.value)}` : "");

  async function load(after) {
    const place = after ? `&after=${encodeURIComponent(after)}` : "";
    const query = reasonQuery();
    try {
      const answer = await ask(`runs/${run.id}/rejects?limit=${PAGE}${place}${query}`);
      const found = await read(answer);
      if (query !== reasonQuery()) return; // another reason was chosen meanwhile
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
