// Follows a run's server-sent events by fetch, since an EventSource can send no token.
import { ask } from "./api.js";

const RETRY_MILLISECONDS = 2000;

/** Calls `progress` with each state, and returns the run's record at its end. */
export async function follow(id, progress, signal) {
  let last = "";
  for (;;) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await ask(`runs/${id}/events`, { headers, signal });
      for await (const event of events(answer.body)) {
        last = event.id ?? last;
        const data = JSON.parse(event.data);
        if (event.name === "end") return data;
        progress(data);
      }
    } catch (error) {
      if (error.name === "AbortError" || (error.status >= 400 && error.status < 500)) throw error;
      progress(null);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map(field));
      if (fields.data) yield { id: fields.id, name: fields.event, data: fields.data };
    }
  }
}

function field(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}
