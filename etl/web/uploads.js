// The files that are on their way to the service, a line for each; and whether a file is
// meant that has another name than any that is expected.
import { Problem, problemNote } from "./api.js";
import { correct, correctedName } from "./corrections.js";
import { fill, find, h } from "./dom.js";
import { bytes } from "./format.js";
import { upload } from "./upload.js";

const words = new Intl.ListFormat("en");

/** `taking` gives {names, limit}: the names that are expected, and bytes of a file at most.
    `arrived` is called when a file is in place, `settled` with {done, failed}, names, when
    nothing is on its way any more. */
export function createUploads({ taking, arrived, settled }) {
  const box = find("uploads");
  let lines = []; // {name, corrects, state, element, stop}; state is asking, sending, done or failed

  function add(file) {
    const { names } = taking();
    const line = newLine();
    const corrected = correctedName(file.name, names);
    if (names.includes(file.name)) send(file, file.name, line);
    else if (corrected) {
      line.corrects = true;
      send(file, corrected, line);
    } else ask(file, line);
  }

  function newLine() {
    const line = { element: h("li", {}), stop: new AbortController() };
    lines.push(line);
    box.append(line.element);
    box.hidden = false;
    return line;
  }

  function remove(line) {
    line.stop.abort();
    lines = lines.filter((each) => each !== line);
    keepFocus(line);
    line.element.remove();
    box.hidden = !lines.length;
  }

  function leaveOut(line) {
    remove(line);
    settle();
  }

  /** Asks which file one with an unexpected name is to be. */
  function ask(file, line) {
    line.state = "asking";
    const { names } = taking();
    const guess = guessName(file.name, names);
    const choice = h(
      "select",
      {},
      !guess && h("option", { value: "" }, "choose a file"),
      names.map((name) => h("option", { selected: name === guess }, name)),
    );
    show(
      line,
      h(
        "div",
        { class: "note warn", role: "alert" },
        h(
          "p",
          {},
          h("strong", {}, file.name),
          ` is none of the names that are expected: ${words.format(names)}.`,
        ),
        h(
          "div",
          { class: "bar" },
          h("label", { class: "row" }, "Use it as ", choice),
          action("Use it", () => (choice.value ? send(file, choice.value, line) : choice.focus())),
          action("Leave it out", () => leaveOut(line)),
        ),
      ),
    );
  }

  async function send(file, name, line) {
    lines.filter((each) => each !== line && each.name === name).forEach(remove);
    line.name = name;
    line.state = "sending";
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    const said = h("span", { class: "said" });
    const cancel = action("Cancel", () => leaveOut(line));
    cancel.setAttribute("aria-label", `Cancel the upload of ${name}`);
    show(line, title(file, line), bar, said, cancel);
    let whole = file;
    let tag = null;
    try {
      if (line.corrects) {
        said.textContent = "Corrected records";
        ({ whole, tag } = await correct(file, name));
      }
      requireSize(whole);
      const progress = (sent) => {
        bar.value = whole.size ? Math.min(sent / whole.size, 1) : 1;
        const isSent = sent >= whole.size;
        said.textContent = isSent ? "Sent" : `${bytes(sent)} of ${bytes(whole.size)}`;
      };
      progress(0);
      await upload(whole, name, tag, progress, line.stop.signal);
    } catch (problem) {
      if (line.stop.signal.aborted) return;
      if (!(problem instanceof Problem)) throw problem;
      return fail(file, line, problem);
    }
    line.state = "done";
    arrived();
    show(line, title(file, line), h("span", { class: "said" }, `✓ In place, ${bytes(whole.size)}`));
    settle();
  }

  function requireSize({ size }) {
    const { limit } = taking();
    if (size <= limit) return;
    throw new Problem(
      413,
      `It has ${bytes(size)}, and the service takes ${bytes(limit)} at most.`,
    );
  }

  function fail(file, line, problem) {
    line.state = "failed";
    show(
      line,
      h("p", {}, title(file, line), " was not taken: the service has what it had before."),
      problemNote(
        problem,
        h(
          "div",
          { class: "actions" },
          action("Try again", () => send(file, line.name, line)),
          action("Leave it out", () => leaveOut(line)),
        ),
      ),
    );
    settle();
  }

  function show(line, ...content) {
    keepFocus(line);
    line.element.className = `upload ${line.state}`;
    fill(line.element, ...content);
  }

  function settle() {
    if (isBusy()) return;
    const named = (state) => lines.filter((line) => line.state === state).map((line) => line.name);
    settled({ done: named("done"), failed: named("failed") });
  }

  const isBusy = () => lines.some((line) => ["asking", "sending"].includes(line.state));

  addEventListener("beforeunload", (event) => {
    if (lines.some((line) => line.state === "sending")) event.preventDefault();
  });

  return {
    add,
    /** Forgets those that are in place. */
    clear: () => lines.filter((line) => line.state === "done").forEach(remove),
  };
}

const action = (text, press) => h("button", { type: "button", onclick: press }, text);

const title = (file, line) =>
  h(
    "span",
    {},
    h("strong", {}, line.name),
    file.name !== line.name && ` (${file.name})`,
  );

/** The focus is not lost with a button that goes. */
function keepFocus(line) {
  if (line.element.contains(document.activeElement)) find("choose").focus();
}

/** The expected name that is in a name such as "Rows (1).csv", if one is. */
function guessName(given, names) {
  const letters = (name) => name.toLowerCase().replace(/\.csv$/, "").replace(/[^\p{L}\p{N}]/gu, "");
  const found = names
    .filter((name) => letters(given).includes(letters(name)))
    .sort((one, other) => other.length - one.length);
  return found[0];
}
