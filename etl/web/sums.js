// Sums on demand: what the number columns of all rows under the filters add up to.
import { Problem, get, problemNote } from "./api.js";
import { announce, fill, find } from "./dom.js";

/** While its button is pressed, `grid` has a row of sums; they follow the filters. */
export function createSums(view, grid) {
  const [button, message, status] = ["sums", "sums-message", "sums-status"].map(find);
  let isOn = false;
  let latest = null; // the arguments of the last show
  let summed = { of: null, sums: null };

  button.addEventListener("click", () => {
    isOn = !isOn;
    button.setAttribute("aria-pressed", String(isOn));
    if (latest) load(...latest);
  });

  /** Takes the table's columns, what they are `of`, and the signal of the view. */
  function show(columns, of, signal) {
    latest = [columns, of, signal];
    return load(...latest);
  }

  async function load(columns, tableOf, signal) {
    const numbers = view.visible(columns).filter((each) => each.kind === "number" && !each.isKey);
    button.disabled = !numbers.length;
    fill(message);
    if (!isOn || !numbers.length) {
      grid.showSums(null);
      announce(status, "");
      return;
    }
    const of = `${tableOf} ${numbers.map((each) => each.name)}`;
    try {
      if (summed.of !== of) {
        grid.showSums(new Map());
        const [row] = await get(view.sumsPath(numbers), { signal });
        summed = { of, sums: new Map(numbers.map(({ name }, index) => [name, row[`sum_${index}`]])) };
      }
      grid.showSums(summed.sums);
      announce(status, "The sums are in the last row of the table.");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      grid.showSums(null);
      fill(message, problemNote(problem));
    }
  }

  return { show };
}
