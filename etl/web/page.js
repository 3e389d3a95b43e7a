// Puts the sections together: after a publish the others read again.
import { chartsSection } from "./charts.js";
import { find } from "./dom.js";
import { featuresSection } from "./features.js";
import { historySection } from "./history.js";
import { runSection } from "./run.js";
import { tips } from "./tips.js";
import { showWatch } from "./watch.js";

const features = featuresSection({
  start() {
    find("run").focus();
    run.begin(false);
  },
});
const run = runSection({
  ended(record) {
    runs.load();
    if (record?.state === "succeeded" && !record.dry_run) published();
  },
  back() {
    showWatch();
    runs.load();
    published();
  },
});
const charts = chartsSection();
const runs = historySection(Promise.allSettled([features.loaded, charts.loaded]));
tips();
showWatch();

function published() {
  features.load(true);
  charts.load();
}
