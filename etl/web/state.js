// The state of the data in one sentence: what the table was made of, when, and what has
// become of later runs. Files are called by their names, which are not known here.
import { Problem, ask, get } from "./api.js";
import { fill, find, h } from "./dom.js";
import { count, many, several } from "./format.js";
import { time } from "./record.js";

/** Files that are named one by one; more of them are counted. */
const MOST_FILES = 4;

/** The header that says when the rows were published has no fractions of a second. */
const SECOND = 1000;

/** Shows the sentence; `follow` takes the last run whenever there is news of it. */
export function stateOfData() {
  const line = find("state");
  let latest; // the last run: null if there is none, undefined while that is not known
  let published = read();

  async function show() {
    const reading = published;
    try {
      const found = await reading;
      if (reading === published) fill(line, sentence(found, latest));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (reading === published) fill(line); // the sections say why
    }
  }

  function load() {
    published = read();
    return show();
  }

  function follow(run) {
    const isFirst = latest === undefined;
    latest = run ?? null;
    return isFirst ? show() : load();
  }

  show();
  return { load, follow };
}

/** The run whose rows the table has, and since when; null where there is none. */
async function read() {
  const { headers } = await ask("features?limit=1");
  const id = headers.get("X-Run-Id");
  if (id === null) return null;
  return { run: await get(`runs/${id}`), since: new Date(headers.get("Last-Modified")) };
}

function sentence(published, latest) {
  if (published) return [...contents(published), remark(published.run, latest)];
  const why = latest && becameOf(latest, "run");
  return ["Nothing is published yet", why ? [": ", ...why, "."] : "."].flat();
}

/** "10 users, 11 orders, loaded 2 minutes ago, unchanged since; 1 record was left out." */
function contents({ run, since }) {
  const sum = (name) => run.files.reduce((total, file) => total + file[name], 0);
  const rejected = sum("rejected");
  const parts =
    run.files.length > MOST_FILES
      ? [`${count(sum("records") - rejected)} records of ${run.files.length} files`]
      : run.files.map((file) => several(file.records - file.rejected, nameOf(file)));
  const isUnchanged = run.unchanged || new Date(run.started_at) - since >= SECOND;
  return [
    h("strong", {}, parts.join(", ")),
    ", loaded ",
    time(since.toISOString()),
    isUnchanged ? ", unchanged since" : "",
    rejected ? `; ${many(rejected, "record")} ${rejected === 1 ? "was" : "were"} left out.` : ".",
  ];
}

/** What is to be known of a run after the one that filled the table. */
function remark(run, latest) {
  if (!latest || latest.id <= run.id) return null;
  const why = becameOf(latest, "Run");
  return why && h("span", {}, " ", ...why, ": the table is still that of ", link(run, "run"), ".");
}

/** Why a run has published nothing; null where it may have, or still may. */
function becameOf(run, word) {
  if (run.state === "succeeded") return run.dry_run ? [link(run, word), " was a dry run"] : null;
  if (run.state === "running") return null;
  const verbs = { failed: "failed", interrupted: "was interrupted" };
  const verb = run.error === "cancelled" ? "was cancelled" : verbs[run.state];
  return [link(run, word), ` ${verb} `, time(run.finished_at ?? run.started_at)];
}

const link = (run, word) => h("a", { href: `#run-${run.id}` }, `${word} ${run.id}`);

/** The name of a file as words: it says what its records are. */
const nameOf = (file) => file.file.replace(/\.csv$/i, "").replace(/[_-]+/g, " ");
