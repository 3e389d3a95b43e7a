// Asks the API, with a token where there is one, and reports its errors with their details.
import { h } from "./dom.js";
import { NO_TOKEN, askForToken, token } from "./token.js";

/** What the API answers instead; `status` is 0 where nothing answers. */
export class Problem extends Error {
  constructor(status, message, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** The answer; throws a Problem. Where a token is needed it is asked for, unless `quiet`. */
export async function ask(path, { quiet = false, ...options } = {}) {
  for (;;) {
    const answer = await send(path, options);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status !== 401 || quiet) throw problem;
    if (!(await askForToken())) throw new Problem(401, NO_TOKEN, problem.body);
  }
}

/** What the answer's JSON says. */
export const get = async (path, options) => read(await ask(path, options));

/** JSON in which a whole number that JavaScript would round is text, as it was sent. */
export async function read(answer) {
  return JSON.parse(await answer.text(), (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && context ? context.source : value,
  );
}

/** Where the next page starts: the `after` of the answer's Link header; null on the last. */
export function nextPlace(answer) {
  const found = /<([^>]*)>; *rel="?next"?/.exec(answer.headers.get("Link") ?? "");
  return found && new URL(found[1], location.href).searchParams.get("after");
}

/** A problem as an element, with what can be done about it. */
export function problemNote(problem, ...actions) {
  return h("div", { class: "note bad", role: "alert" }, h("p", {}, problem.message), ...actions);
}

/** Makes a link to data work where it `needsToken`: a link alone can send none. */
export function guardDownload(link, needsToken = token) {
  link.addEventListener("click", async (event) => {
    if (!needsToken()) return;
    event.preventDefault();
    try {
      save(await (await ask(link.getAttribute("href"))).blob(), link.download);
    } catch (problem) {
      link.after(problemNote(problem));
    }
  });
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

async function send(path, options) {
  const secret = token();
  const headers = { ...options.headers, ...(secret && { Authorization: `Bearer ${secret}` }) };
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer: is it running?");
  }
}

/** What an answer that is an error says. */
export async function problemOf(answer) {
  try {
    const body = await answer.json();
    return new Problem(answer.status, body.detail ?? answer.statusText, body);
  } catch {
    return new Problem(answer.status, `${answer.status} ${answer.statusText}`);
  }
}
