// The section Run: starts and cancels runs, follows the one in progress, shows the last.
import { Problem, get, problemNote } from "./api.js";
import { inWords, verdict } from "./changes.js";
import { fill, find, h, announce } from "./dom.js";
import { follow } from "./events.js";
import { PHASES, progressView } from "./progress.js";
import { files, headline, isUnchanged, notes } from "./record.js";
import { rejectedIn, rejects } from "./rejects.js";
import { seconds, sentence } from "./format.js";

/** How often to check for runs started elsewhere, and for the service after an outage. */
const LOOK_MILLISECONDS = 4000;

/** `shown` takes each run that is shown as the last one, `ended` one that has finished
    since; `back` is called after an outage. `confirm` says whether the files are still those
    of a dry run that is to be published. */
export function runSection({ shown, ended, back, confirm }) {
  const [body, status, banner] = [find("run-body"), find("run-status"), find("banner")];
  const [start, dry, cancel] = [find("start"), find("dry"), find("cancel")];
  const [allowEmpty, full] = [find("allow-empty"), find("full")];
  let current = null; // the run in the section, undefined if there is none
  let following = null; // the id of the run that is followed
  let watching = Promise.resolve(); // until its end
  let checking = null; // the id of the dry run that checks files
  let checks = 0;

  start.addEventListener("click", () => begin(false));
  dry.addEventListener("click", () => begin(true));
  cancel.addEventListener("click", stop);

  async function begin(isDry) {
    if (following !== null) return;
    try {
      await watch(await trigger(isDry));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 409 && problem.body?.run) await watch(problem.body.run);
      else fill(body, problemNote(problem), current !== null && outcome(current, actions));
    }
  }

  /** Triggers a run: its record. */
  async function trigger(isDry) {
    const query = new URLSearchParams({ wait: false });
    if (isDry) query.set("dry_run", true);
    if (allowEmpty.checked) query.set("allow_empty", true);
    if (full.checked) query.set("full", true);
    const answer = await get(`trigger_etl?${query}`, { method: "POST" });
    allowEmpty.checked = full.checked = false; // they are meant for one run
    return answer.run;
  }

  /** Checks new files by a dry run, in place of the last such one if that is in progress,
      and after any other. Its record; null if there was none, or there is a newer check. */
  async function check() {
    const number = ++checks;
    if (following !== null && following === checking) await stop();
    for (;;) {
      await watching;
      if (number !== checks) return null;
      try {
        const { id } = await trigger(true);
        checking = id;
        let record = await watch({ id });
        if (record?.id !== id) record = await watch({ id }); // another one was followed
        return number === checks ? record : null;
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (problem.status !== 409) {
          fill(body, problemNote(problem));
          return null;
        }
        if (problem.body?.run) await watch(problem.body.run);
        else await timeOrReturn();
      }
    }
  }

  async function stop() {
    try {
      await get(`runs/${following}/cancel`, { method: "POST" });
      announce(status, "The run is being cancelled");
    } catch (problem) {
      body.append(problemNote(problem));
    }
  }

  /** Follows a run, unless one is followed already: the record of that at its end. */
  function watch(run) {
    if (following === null) watching = followToEnd(run);
    return watching;
  }

  async function followToEnd(run) {
    following = run.id;
    const view = progressView(run.id);
    let phase = null;
    fill(body, view.element);
    enable(false);
    try {
      const record = await follow(run.id, (state) => {
        view.show(state);
        if (state && state.phase !== phase) {
          phase = state.phase;
          announce(status, `Run ${run.id}: ${PHASES[phase] ?? "beginning"}`);
        }
      });
      show(record);
      announce(
        status,
        `Run ${record.id} ${record.state}${ending(record)}`,
      );
      ended(record);
      return record;
    } catch (problem) {
      fill(body, problemNote(problem));
      return null;
    } finally {
      view.stop();
      following = null;
      enable(true);
    }
  }

  function enable(isIdle) {
    const isFocused = [start, dry, cancel].includes(document.activeElement);
    start.disabled = dry.disabled = allowEmpty.disabled = full.disabled = !isIdle;
    cancel.hidden = isIdle;
    if (isFocused) (isIdle ? start : cancel).focus();
  }

  function show(record) {
    current = record;
    shown(record);
    fill(body, outcome(record, actions));
  }

  /** The button that was pressed goes: the focus is where it is for any run. */
  function beginFromOutcome(isDry) {
    start.focus({ preventScroll: true });
    begin(isDry);
  }

  const actions = {
    allow(run) {
      allowEmpty.checked = true;
      beginFromOutcome(run.dry_run);
    },
    async publish(run) {
      if (!(await confirm(run))) return;
      allowEmpty.checked = run.allow_empty;
      beginFromOutcome(false);
    },
  };

  /** Looks for what happened elsewhere; the latest record, or a Problem. */
  async function refresh(quiet) {
    const [latest] = await get("runs?limit=1", { quiet });
    const wasAway = !banner.hidden;
    banner.hidden = true;
    if (wasAway && quiet) back();
    if (following !== null) return;
    if (wasAway && current !== null) fill(body, outcome(current, actions)); // without a problem
    if (latest?.state === "running") watch(latest);
    else if (current === null || latest?.id !== current?.id || latest?.state !== current?.state) {
      const isNews = current !== null;
      show(latest);
      if (isNews) ended(latest);
    }
  }

  async function lookSafely(quiet) {
    try {
      await refresh(quiet);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const isUnavailable = problem.status === 0 || problem.status >= 500;
      if (isUnavailable) {
        announce(banner, `${sentence(problem.message)} Trying again every few seconds.`);
        banner.hidden = false;
      }
      if (current === null) fill(body, problemNote(problem));
    }
  }

  async function keepLooking() {
    await lookSafely(false);
    for (;;) {
      await timeOrReturn();
      if (!document.hidden) await lookSafely(true);
    }
  }

  keepLooking();
  /** Files have changed: what a dry run has found is no longer what publishing would do. */
  const outdate = () => body.querySelector(".verdict")?.remove();

  return { begin, check, outdate };
}

/** What there is to announce of a run that has finished, after its state. */
function ending(run) {
  if (run.error) return `: ${run.error}`;
  if (isUnchanged(run)) return ": nothing has changed";
  return ` in ${seconds(run.seconds)}. ${inWords(run)}`.trimEnd();
}

/** Whether a run failed for a file without records, as its error says. */
const isForEmptyFiles = (run) => run.error?.endsWith("?allow_empty=true");

/** What has become of the table; of a dry run that has succeeded more is to be said. */
function ofTable(run) {
  if (run.state !== "succeeded") return "The table stays as it was.";
  if (run.dry_run) return null;
  if (isUnchanged(run)) return "Nothing has changed: the table stays as it was.";
  return "The table is published: it has the data of these files.";
}

/** What there is to say of the run that was last; `allow` begins one that may empty the
    table, and `publish` one that publishes what a dry run has checked. */
function outcome(run, { allow, publish }) {
  if (!run) {
    return h(
      "div",
      { class: "empty" },
      h("p", {}, h("strong", {}, "No run yet.")),
      h(
        "p",
        {},
        "Once the CSV files are in place, start a run: it loads them, builds the table, checks it and publishes it.",
      ),
    );
  }
  const became = ofTable(run);
  const dry = run.state === "succeeded" && run.dry_run && verdict(run, publish);
  const left = rejectedIn(run);
  const again =
    isForEmptyFiles(run) &&
    h(
      "button",
      { type: "button", onclick: () => allow(run) },
      "Run again and allow empty files",
    );
  return h(
    "div",
    {},
    headline(run),
    notes(run),
    became && h("p", { class: "soft" }, became),
    again,
    dry,
    files(run),
    left > 0 && rejects(run),
  );
}

/** Waits until the next check is due, or somebody comes back to this tab. */
function timeOrReturn() {
  return new Promise((resolve) => {
    setTimeout(resolve, LOOK_MILLISECONDS);
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
}
