// The section Files: what the pipeline expects, what is there, and new files for it. Once
// these are in place a dry run checks them, and people publish.
import { Problem, ask, get, guardDownload, problemNote, read } from "./api.js";
import { announce, fill, find, h } from "./dom.js";
import { dropZone } from "./drop.js";
import { bytes, sentence } from "./format.js";
import { wouldChange } from "./changes.js";
import { time } from "./record.js";
import { scrolling, table } from "./table.js";
import { askForToken, token } from "./token.js";
import { createUploads } from "./uploads.js";

const COLUMNS = [
  { name: "column", cell: (it) => h("code", {}, it.name) },
  { name: "type", cell: (it) => it.type },
  { name: "empty", cell: (it) => (it.required ? "no" : "yes") },
  { name: "meaning", cell: (it) => h("div", { class: "long" }, it.description ?? "") },
];

const words = new Intl.ListFormat("en");

/** `check` makes a dry run, and returns its record; null if there was none. `outdate` says
    that files have changed since the last one. */
export function filesSection({ check, outdate }) {
  const [list, hint, status] = [find("expected"), find("files-hint"), find("files-status")];
  const [choose, chosen] = [find("choose"), find("chosen")];
  let expected = [];
  let refusal = { status: 0, reason: "" }; // why an upload would be refused now
  let limit = Infinity;

  const names = () => expected.map((file) => file.file);
  const isRefused = () => ![0, 401].includes(refusal.status);
  const uploads = createUploads({ taking: () => ({ names: names(), limit }), arrived: outdate, settled });

  choose.addEventListener("click", () => chosen.click());
  chosen.addEventListener("change", () => {
    take([...chosen.files]);
    chosen.value = ""; // the same file may be chosen again
  });
  dropZone({
    take,
    invitation: () => ({
      isRefused: isRefused(),
      text: isRefused() ? refusing() : `Drop the files here: ${words.format(names())}`,
    }),
  });

  const refusing = () => `Files cannot be uploaded here: ${sentence(refusal.reason)}`;

  /** Reads what there is. */
  async function load() {
    try {
      const answer = await ask("files");
      const [, code, reason] = /^(\d+) (.*)/.exec(answer.headers.get("X-Uploads-Refused")) ?? [];
      refusal = { status: Number(code ?? 0), reason: reason ?? "" };
      limit = Number(answer.headers.get("X-Max-Upload") ?? Infinity);
      expected = await read(answer);
      show();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(list, h("li", {}, problemNote(problem)));
    }
  }

  function show() {
    choose.hidden = isRefused();
    choose.classList.toggle("primary", expected.some((file) => file.bytes === null));
    hint.classList.toggle("refused", isRefused());
    hint.textContent = isRefused() ? refusing() : "Drop CSV files anywhere on this page, or";
    const opened = new Set(
      [...list.querySelectorAll("details[open]")].map((each) => each.dataset.file),
    );
    fill(
      list,
      expected.map((file) => item(file, opened.has(file.file), isRefused() ? null : download(file))),
    );
  }

  /** A link to what is there, since another file takes its place. */
  function download({ file, bytes: size }) {
    if (size === null) return null;
    const link = h("a", { href: `files/${encodeURIComponent(file)}`, download: file }, `Download ${file}`);
    guardDownload(link, () => refusal.status === 401 || token());
    return h("p", {}, link);
  }

  async function take(files, folders = []) {
    await loaded;
    if (!expected.length) await load(); // it may have failed
    if (isRefused() || !expected.length) return;
    const remarks = folders.map((name) => `${name} is a folder: drop the files that are in it.`);
    say(remarks.join(" "));
    if (refusal.status === 401 && files.length) {
      if (!(await askForToken())) return say("Nothing was sent: a token is needed.");
      await load();
    }
    files.forEach(uploads.add);
  }

  /** What to do once all files are in place, or cannot be. */
  async function settled({ done, failed }) {
    if (!done.length) return say("");
    if (failed.length) {
      say(`${these(done)} in place. ${words.format(failed)} was not taken: correct and drop it again, or leave it out.`);
      return;
    }
    await load();
    uploads.clear();
    const missing = expected.filter((file) => file.bytes === null).map((file) => file.file);
    if (missing.length) say(`${these(done)} in place. Still missing: ${words.format(missing)}.`);
    else if (await isWatched())
      say(`${these(done)} in place. The service watches the files, and publishes them by itself.`);
    else await checked(done);
  }

  async function checked(done) {
    say(`${these(done)} in place. A dry run checks the files; the table is unchanged until you publish.`);
    const run = await check();
    if (!run) return;
    say(`${these(done)} in place. ${conclusion(run)}`);
    find("run-body").querySelector(".verdict, .note")?.scrollIntoView({ block: "nearest" });
  }

  /** Whether the files are still those of a dry run; if not, they are checked again. */
  async function confirm(run) {
    await load();
    const before = new Map(run.files.map((file) => [file.file, file.sha256]));
    const changed = expected.filter((file) => file.sha256 !== before.get(file.file));
    if (changed.length) checked(changed.map((file) => file.file));
    return !changed.length;
  }

  const say = (text) => announce(status, text);

  const loaded = load();
  return { load, confirm, published: () => say("") };
}

const these = (names) => `${words.format(names)} ${names.length > 1 ? "are" : "is"}`;

function conclusion(run) {
  if (run.state !== "succeeded")
    return "The check has failed, and the table is unchanged: see below what to correct, and drop the file again.";
  return wouldChange(run)
    ? "The table is unchanged until you publish. If these changes are not what you want, drop other files."
    : "Publishing would change no row of the table.";
}

/** Whether the service starts runs by itself; no, where it does not say. */
async function isWatched() {
  try {
    return Boolean((await get("healthz", { quiet: true })).watch);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    return false;
  }
}

/** An expected file: what is there; and on demand a link to it, and its columns. */
function item(file, open, download) {
  const there =
    file.bytes === null
      ? h("span", { class: "missing" }, "missing")
      : h("span", { class: "soft" }, `${bytes(file.bytes)}, `, time(file.modified));
  const title = `Columns of ${file.file}`;
  return h(
    "li",
    {},
    h(
      "details",
      { "data-file": file.file, open },
      h("summary", {}, h("strong", {}, file.file), " ", there),
      download,
      scrolling(title, table(title, COLUMNS, file.columns)),
    ),
  );
}
