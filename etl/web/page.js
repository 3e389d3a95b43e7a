// Puts the sections together: after a publish the others read again.
import { chartsSection } from "./charts.js";
import { find } from "./dom.js";
import { featuresSection } from "./features.js";
import { filesSection } from "./files.js";
import { historySection } from "./history.js";
import { keepTimes } from "./record.js";
import { runSection } from "./run.js";
import { stateOfData } from "./state.js";
import { tips } from "./tips.js";
import { showWatch } from "./watch.js";

find("incomplete").remove();

const features = featuresSection({
  start() {
    find("run").focus();
    run.begin(false);
  },
});
const state = stateOfData();
const run = runSection({
  shown: state.follow,
  confirm: (dryRun) => files.confirm(dryRun),
  ended(record) {
    runs.load();
    files.load();
    if (record?.state === "succeeded" && !record.dry_run) published();
  },
  back() {
    showWatch();
    state.load();
    files.load();
    runs.load();
    published();
  },
});
const files = filesSection({ check: run.check, outdate: run.outdate });
const charts = chartsSection();
const runs = historySection(Promise.allSettled([features.loaded, charts.loaded]));
tips();
keepTimes();
showWatch();

function published() {
  files.published();
  features.load(true);
  charts.load();
}
