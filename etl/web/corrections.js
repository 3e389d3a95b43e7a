// Corrected records: how they get into the file that is in place, instead of those that the
// last run over it left out.
import { Problem, ask, get } from "./api.js";

const NEWLINE = 10;

/** The expected name to whose records a file such as "rows.rejects (1).csv" belongs. */
export function correctedName(given, names) {
  const [, stem] = /^(.+?)\.rejects\b.*\.csv$/i.exec(given) ?? [];
  return names.find((name) => name === `${stem}.csv`);
}

/** {whole, tag}: the file in place with these records in it, and the entity tag of what it
    is made of. The service keeps that where another has taken its place. Throws a Problem. */
export async function correct(records, name) {
  const answer = await ask(`files/${encodeURIComponent(name)}`, { cache: "no-store" });
  const tag = answer.headers.get("ETag");
  const inPlace = await answer.blob();
  const run = await lastRunOver(name, tag);
  const { header } = run.files.find((each) => each.file === name);
  const added = await recordsOf(records, header, name);
  const rejects = await get(`runs/${run.id}/rejects?file=${encodeURIComponent(name)}`);
  const parts = await without(inPlace, linesOf(rejects));
  const end = header.endsWith("\r\n") ? "\r\n" : "\n";
  const last = new Uint8Array(await parts.slice(-1).arrayBuffer());
  const between = last[0] === NEWLINE ? "" : end;
  return { whole: new Blob([parts, between, added, end]), tag };
}

async function lastRunOver(name, tag) {
  const runs = await get("runs");
  const isOver = ({ file, sha256, rejected, header }) =>
    file === name && `"${sha256}"` === tag && rejected > 0 && header;
  const run = runs.find(({ files }) => files.some(isOver));
  if (run) return run;
  throw new Problem(
    409,
    `No run has left records out of ${name} as it is now. Correct ${name} itself, and drop that.`,
  );
}

/** The records below the header, as text; it is that of the file, perhaps as a spreadsheet
    has saved it: without quotes, or without a first line that names the delimiter. */
async function recordsOf(file, header, name) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Problem(422, "It is not UTF-8: save it as CSV in UTF-8.");
  }
  const [wanted, given] = [header.replace(/^\ufeff/, ""), `${text}\n`].map((each) =>
    each.replace(/^"?sep=[^\n]*\n/i, ""),
  );
  const lines = given.split("\n");
  const first = lines.splice(0, wanted.trimEnd().split("\n").length).join("\n");
  if (columns(first) !== columns(wanted)) {
    throw new Problem(
      422,
      `Its first line is not that of ${name}, ${wanted.trim()}: keep the columns and the delimiter.`,
    );
  }
  return lines.join("\n").replace(/[\r\n]*$/, "");
}

const columns = (line) => line.replace(/(?<=[,;|])\t|[" \r\n]/g, "").toLowerCase();

/** The numbers of all lines of rejected records, which may have line ends in them. */
function linesOf(rejects) {
  return new Set(
    rejects.flatMap(({ line, record }) => record.split("\n").map((_, index) => line + index)),
  );
}

/** A file without some of its lines, which count from 1; it is read bit by bit. */
async function without(file, lines) {
  const parts = [];
  const reader = file.stream().getReader();
  let line = 1;
  let start = 0; // of the line
  let kept = 0; // up to where all is in the parts, or left out
  const endLine = (end) => {
    if (lines.has(line)) {
      parts.push(file.slice(kept, start));
      kept = end;
    }
    line += 1;
    start = end;
  };
  for (let position = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    for (let at = value.indexOf(NEWLINE); at >= 0; at = value.indexOf(NEWLINE, at + 1)) {
      endLine(position + at + 1);
    }
    position += value.length;
  }
  endLine(file.size);
  return new Blob([...parts, file.slice(kept)]);
}
