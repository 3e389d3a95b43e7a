// The section History: the runs, newest first, and all of one that is opened.
import { Problem, ask, get, nextPlace, problemNote, read } from "./api.js";
import { inWords } from "./changes.js";
import { fill, find, h, announce } from "./dom.js";
import { files, isUnchanged, notes, state, steps, time } from "./record.js";
import { rejectedIn, rejects } from "./rejects.js";
import { row, scrolling, table } from "./table.js";
import { count, many, moment, seconds } from "./format.js";

const PAGE = 20;

/** `settled` is when what stands above has its height. */
export function historySection(settled) {
  const [box, older, status] = [find("runs"), find("older"), find("history-status")];
  let body = null;
  let opened = null; // the row with the details of a run
  let extra = null; // the row of a run that is older than its neighbours say

  const columns = [
    { name: "run", cell: (run) => opener(run) },
    { name: "state", cell: (run) => state(run) },
    { name: "when", cell: (run) => time(run.started_at) },
    { name: "took", number: true, cell: (run) => seconds(run.seconds) },
    {
      name: "records",
      number: true,
      cell: (run) => count(run.files.reduce((sum, file) => sum + file.records, 0)),
    },
    { name: "left out", number: true, cell: (run) => count(rejectedIn(run)) },
    { name: "remarks", cell: remarks },
  ];

  older.addEventListener("click", () => loadMore(older.dataset.after));
  addEventListener("hashchange", () => openNamed(true));

  async function load(isFirst = false) {
    try {
      const answer = await ask(`runs?limit=${PAGE}`);
      const runs = await read(answer);
      if (runs.length) {
        const made = table("Runs, newest first", columns, runs);
        body = made.tBodies[0];
        opened = null;
        fill(box, scrolling("Runs", made));
      } else {
        fill(box, h("p", { class: "empty" }, "No run yet. Each run will have a line here."));
      }
      showFoot(answer);
      openNamed(isFirst);
    } catch (problem) {
      showProblem(problem);
    }
  }

  async function loadMore(after) {
    try {
      const answer = await ask(`runs?limit=${PAGE}&after=${encodeURIComponent(after)}`);
      const runs = await read(answer);
      if (extra?.nextElementSibling === opened) close();
      extra?.remove();
      extra = null;
      append(runs);
      showFoot(answer);
    } catch (problem) {
      showProblem(problem);
    }
  }

  function showProblem(problem) {
    if (!(problem instanceof Problem)) throw problem;
    fill(box, problemNote(problem));
    older.hidden = true;
  }

  function showFoot(answer) {
    const next = nextPlace(answer);
    older.dataset.after = next ?? "";
    older.hidden = !next;
    const visible = body?.querySelectorAll("button[data-run]").length ?? 0;
    announce(status, visible ? `${many(visible, "run")} shown${next ? "" : ", all that are kept"}` : "");
  }

  const opener = (run) =>
    h(
      "button",
      {
        type: "button",
        class: "link",
        "data-run": run.id,
        "aria-expanded": "false",
        onclick: (event) => toggle(event.currentTarget, run),
      },
      `#${run.id}${run.dry_run ? " dry" : ""}`,
    );

  function toggle(button, run) {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    close();
    history.replaceState(
      history.state,
      "",
      `${location.pathname}${location.search}${isOpen ? "" : `#run-${run.id}`}`,
    );
    if (!isOpen) open(button.closest("tr"), run);
  }

  function close() {
    opened?.previousElementSibling
      ?.querySelector("button[data-run]")
      .setAttribute("aria-expanded", "false");
    opened?.remove();
    opened = null;
  }

  function open(line, run) {
    line.querySelector("button[data-run]").setAttribute("aria-expanded", "true");
    opened = h("tr", { class: "details" }, h("td", { colspan: columns.length }, details(run)));
    line.after(opened);
  }

  const append = (runs) => body.append(...runs.map((run) => row(columns, run)));

  const lineOf = (id) => body.querySelector(`button[data-run="${id}"]`)?.closest("tr");

  /** Opens the run that the address names, which may be older than those in the list. */
  async function openNamed(isAsked) {
    const [, id] = /^#run-(\d+)$/.exec(location.hash) ?? [];
    if (!id || !body) return;
    try {
      const run = await get(`runs/${id}`);
      close();
      if (!lineOf(id)) {
        append([run]);
        extra = lineOf(id);
      }
      open(lineOf(id), run);
      if (!isAsked) return;
      await settled;
      lineOf(id)?.scrollIntoView({ block: "center", behavior: "instant" });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      box.prepend(problemNote(problem));
    }
  }

  load(true);
  return { load };
}

function remarks(run) {
  const remarks = [
    run.error,
    isUnchanged(run) && "nothing has changed",
    run.full_run && "everything again",
    run.warnings.length && many(run.warnings.length, "warning"),
  ]
    .filter(Boolean)
    .join("; ");
  return h("span", { class: "remark", title: remarks }, remarks);
}

function details(run) {
  const left = rejectedIn(run);
  return h(
    "div",
    { class: "detail" },
    h("p", { class: "soft" }, `${course(run)} ${inWords(run)}`),
    notes(run),
    files(run, true),
    steps(run),
    left > 0 && rejects(run),
  );
}

/** When a run was, and how far it came. */
function course(run) {
  const end = run.finished_at ? `, ended ${moment(run.finished_at)}` : "";
  const phase = run.phase && run.state !== "succeeded" ? `, in the phase ${run.phase}` : "";
  return `Started ${moment(run.started_at)}${end}${phase}.`;
}
