// Sends one file to the service, with its progress, and a token where one is needed.
import { Problem, problemOf } from "./api.js";
import { NO_TOKEN, askForToken, token } from "./token.js";

/** Sends `file` as `name`, in place of the one with this entity `tag` if there is a tag, and
    calls `progress` with the bytes that are sent. Throws a Problem, or the reason of `signal`
    once that is aborted. */
export async function upload(file, name, tag, progress, signal) {
  for (;;) {
    const answer = await put(file, name, tag, progress, signal);
    if (answer.ok) return;
    if (answer.status === 412) throw new Problem(412, `${name} has changed meanwhile.`);
    const problem = await problemOf(answer);
    if (answer.status !== 401) throw problem;
    if (!(await askForToken())) throw new Problem(401, NO_TOKEN);
  }
}

/** By XMLHttpRequest, since fetch does not say how much it has sent. */
function put(file, name, tag, progress, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("PUT", `files/${encodeURIComponent(name)}`);
    request.setRequestHeader("Content-Type", "text/csv");
    if (tag) request.setRequestHeader("If-Match", tag);
    const secret = token();
    if (secret) request.setRequestHeader("Authorization", `Bearer ${secret}`);
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      const { status, statusText } = request;
      resolve(new Response(request.response, { status, statusText }));
    });
    request.addEventListener("error", () => reject(new Problem(0, BROKEN)));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

const BROKEN = "The upload broke off: the service does not answer, or the file has changed.";
