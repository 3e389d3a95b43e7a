// What publishing would change in the table, as a dry run has found it.
import { h } from "./dom.js";
import { many } from "./format.js";

const words = new Intl.ListFormat("en");

/** Whether a run found that publishing changes something, or it is not known. */
export const wouldChange = (run) => !run.changes || Object.values(run.changes).some(Boolean);

/** "Publishing would add 2 rows and change 9 rows"; nothing where it is not known. */
export function inWords({ changes }) {
  if (!changes) return "";
  const { added, removed, changed } = changes;
  const parts = [
    added && `add ${many(added, "row")}`,
    removed && `remove ${many(removed, "row")}`,
    changed && `change ${many(changed, "row")}`,
  ].filter(Boolean);
  return `Publishing would ${parts.length ? words.format(parts) : "change no row"}.`;
}

/** What there is to say, and do, after a dry run that has succeeded. */
export function verdict(run, publish) {
  return h(
    "div",
    { class: "verdict" },
    h(
      "p",
      {},
      h("strong", {}, inWords(run)),
      " It was a dry run: nothing was published, and the table is as it was.",
    ),
    wouldChange(run) &&
      h("button", { type: "button", class: "primary", onclick: () => publish(run) }, "Publish"),
  );
}
