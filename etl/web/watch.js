// The line beside the buttons that start a run: whether the service starts some by itself.
import { Problem, get } from "./api.js";
import { find } from "./dom.js";

/** Shows what the service says now; without an answer the line stays as it is. */
export async function showWatch() {
  const line = find("watch");
  try {
    const { watch } = await get("healthz", { quiet: true });
    line.textContent = watch ? `Watches the data folder every ${watch.seconds} s` : "";
    line.hidden = !watch;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
}
