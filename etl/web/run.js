// The section Run: starts and cancels runs, follows the one under way, shows the last.
import { Problem, get, problemNote } from "./api.js";
import { fill, find, h, tell } from "./dom.js";
import { follow } from "./events.js";
import { PHASES, progressView } from "./progress.js";
import { files, headline, notes } from "./record.js";
import { rejectedIn, rejects } from "./rejects.js";
import { seconds, sentence } from "./words.js";

/** How often it is looked whether a run was begun elsewhere, and an absence is over. */
const LOOK_MILLISECONDS = 4000;

/** `ended` is called when another run is over, and `back` after an absence. */
export function runSection({ ended, back }) {
  const [body, told, banner] = [find("run-body"), find("run-told"), find("banner")];
  const [start, dry, cancel] = [find("start"), find("dry"), find("cancel")];
  const allowEmpty = find("allow-empty");
  let shown = null; // the record that is shown, undefined where there is none
  let following = null; // the id of the run that is followed

  start.addEventListener("click", () => begin(false));
  dry.addEventListener("click", () => begin(true));
  cancel.addEventListener("click", stop);

  async function begin(isDry) {
    if (following !== null) return;
    try {
      const query = `${isDry ? "&dry_run=true" : ""}${allowEmpty.checked ? "&allow_empty=true" : ""}`;
      const answer = await get(`trigger_etl?wait=false${query}`, { method: "POST" });
      allowEmpty.checked = false; // it is meant for one run
      await watch(answer.run);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 409 && problem.body?.run) await watch(problem.body.run);
      else fill(body, problemNote(problem), shown !== null && outcome(shown, allowing));
    }
  }

  async function stop() {
    try {
      await get(`runs/${following}/cancel`, { method: "POST" });
      tell(told, "The run is told to stop");
    } catch (problem) {
      body.append(problemNote(problem));
    }
  }

  async function watch(run) {
    if (following !== null) return;
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
          tell(told, `Run ${run.id}: ${PHASES[phase] ?? "beginning"}`);
        }
      });
      show(record);
      tell(
        told,
        `Run ${record.id} ${record.state}${record.error ? `: ${record.error}` : ` in ${seconds(record.seconds)}`}`,
      );
      ended(record);
    } catch (problem) {
      fill(body, problemNote(problem));
    } finally {
      view.stop();
      following = null;
      enable(true);
    }
  }

  function enable(isIdle) {
    const isFocused = [start, dry, cancel].includes(document.activeElement);
    start.disabled = dry.disabled = allowEmpty.disabled = !isIdle;
    cancel.hidden = isIdle;
    if (isFocused) (isIdle ? start : cancel).focus();
  }

  function show(record) {
    shown = record;
    fill(body, outcome(record, allowing));
  }

  function allowing(isDry) {
    allowEmpty.checked = true;
    begin(isDry);
  }

  /** Looks for what happened elsewhere; the latest record, or a Problem. */
  async function look(quiet) {
    const [latest] = await get("runs?limit=1", { quiet });
    if (!banner.hidden) {
      banner.hidden = true;
      if (quiet) back();
    }
    if (following !== null) return;
    if (latest?.state === "running") watch(latest);
    else if (shown === null || latest?.id !== shown?.id || latest?.state !== shown?.state) {
      const isNews = shown !== null;
      show(latest);
      if (isNews) ended(latest);
    }
  }

  async function lookSafely(quiet) {
    try {
      await look(quiet);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const isAway = problem.status === 0 || problem.status >= 500;
      if (isAway) {
        tell(banner, `${sentence(problem.message)} Trying again every few seconds.`);
        banner.hidden = false;
      }
      if (shown === null) fill(body, problemNote(problem));
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
  return { begin };
}

/** Whether a run failed for a file without records, as the words of its error tell. */
const isForEmptyFiles = (run) => run.error?.endsWith("?allow_empty=true");

/** What there is to say of the run that was last; `allow` begins one that may empty it. */
function outcome(run, allow) {
  if (!run) {
    return h(
      "div",
      { class: "empty" },
      h("p", {}, h("strong", {}, "No run yet.")),
      h(
        "p",
        {},
        "Put the CSV files into the data folder and start a run: it loads them, builds the table, checks it and publishes it.",
      ),
    );
  }
  const stays =
    run.state !== "succeeded" && h("p", { class: "soft" }, "The table stays as it was.");
  const dry =
    run.state === "succeeded" &&
    run.dry_run &&
    h("p", { class: "soft" }, "It was a dry run: nothing was published.");
  const left = rejectedIn(run);
  const again =
    isForEmptyFiles(run) &&
    h(
      "button",
      { type: "button", onclick: () => allow(run.dry_run) },
      "Run again and allow empty files",
    );
  return h(
    "div",
    {},
    headline(run),
    notes(run),
    stays,
    again,
    dry,
    files(run),
    left > 0 && rejects(run),
  );
}

/** Waits until it is time to look again, or somebody comes back to this tab. */
function timeOrReturn() {
  return new Promise((resolve) => {
    setTimeout(resolve, LOOK_MILLISECONDS);
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
}
