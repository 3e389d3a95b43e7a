// Numbers, times and sizes as people read them.

const integers = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const count = (number) => integers.format(number);

/** "1 record", "2 records". */
export const many = (number, word) => `${count(number)} ${word}${Number(number) === 1 ? "" : "s"}`;

/** "1 user", "2 users": of a name in the plural, as people call a file of them. */
export const several = (number, plural) =>
  `${count(number)} ${Number(number) === 1 ? singular(plural) : plural}`;

const singular = (plural) =>
  plural.replace(/ies$/, "y").replace(/(?<=ss|x|ch|sh)es$|(?<![sui])s$/, "");

/** A number of a table: six significant digits of a long fraction. */
export function decimal(number) {
  if (Number.isInteger(number)) return String(number);
  return String(Number(Math.abs(number) < 1000 ? number.toPrecision(6) : number.toFixed(2)));
}

export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  for (; size >= 1000 && step < units.length - 1; step++) size /= 1000;
  return `${short.format(size)} ${units[step]}`;
}

export function seconds(time) {
  if (time === null || time === undefined) return "unknown";
  if (time < 1) return `${time < 0.01 ? short.format(time * 1000) : Math.round(time * 1000)} ms`;
  if (time < 60) return `${time.toFixed(time < 10 ? 2 : 1)} s`;
  const whole = Math.round(time);
  const [hours, minutes, rest] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

/** Seconds that go on: always of one form, so that they do not jump. */
export const clock = (time) => (time < 60 ? `${time.toFixed(1)} s` : seconds(time));

export const moment = (date) => moments.format(new Date(date));

export function ago(date) {
  const past = (new Date(date) - Date.now()) / 1000;
  for (const [unit, size] of [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ]) {
    if (past <= -size) return relative.format(Math.round(past / size), unit);
  }
  return past > -5 ? "just now" : relative.format(Math.round(past), "second");
}

/** What the API says, as a sentence. */
export const sentence = (text) =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
