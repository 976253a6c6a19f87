// Numbers, times and foreign texts, made fit for people to read. Pure functions.

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const WHOLE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

// Characters that show nothing, or that change how others are shown: controls, zero widths, bidirectional
// overrides, line and paragraph separators, tags.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** A text of a peer or a record with every unseen character named, so that it cannot pass for another one. */
export function visible(text) {
  return String(text).replace(UNSEEN, (one) => `\u27e8U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

/** The same, no longer than `most` characters; whole code points. */
export function clip(text, most = 120) {
  const whole = String(text);
  if (whole.length <= most) return visible(whole);
  return `${visible(Array.from(whole.slice(0, most)).slice(0, most - 1).join("").replace(/[\ud800-\udbff]$/, ""))}\u2026`;
}

export function number(value) {
  return value === null || value === undefined ? "\u2013" : NUMBER.format(value);
}

/** "1 peer", "2 peers". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** A rate in events a second, with as many digits as say something. */
export function rate(value) {
  if (value === null || !Number.isFinite(value)) return "\u2013";
  if (value === 0) return "0";
  return value < 10 ? value.toFixed(1) : NUMBER.format(Math.round(value));
}

/** A part of a whole in per cent; never 0 % or 100 % where it is not. */
export function percent(part, whole) {
  if (!whole) return "\u2013";
  const exact = (100 * part) / whole;
  if (part > 0 && exact < 1) return "<1 %";
  if (part < whole && exact > 99) return ">99 %";
  return `${Math.round(exact)} %`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Seconds as the two largest units: "3 d 4 h", "2 min 5 s", "40 s". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "\u2013";
  let left = Math.max(0, Math.floor(seconds));
  const first = UNITS.findIndex(([, size]) => left >= size);
  if (first === -1) return "0 s";
  const parts = [];
  for (const [unit, size] of UNITS.slice(first, first + 2)) {
    const many = Math.floor(left / size);
    left -= many * size;
    if (many) parts.push(`${many} ${unit}`);
  }
  return parts.join(" ");
}

/** A time of day; with the day where it was not today. */
export function clock(time, now = new Date()) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "\u2013";
  return date.toDateString() === now.toDateString() ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

export function wholeTime(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : WHOLE.format(date);
}

/** How long ago, seconds. */
export function age(time, now = Date.now()) {
  return Math.max(0, (now - Date.parse(time)) / 1000);
}

/** A mapping by family as one text: "IPv4 1,200, IPv6 40"; a family alone needs no name. */
export function byFamily(values) {
  const there = Object.entries(values ?? {});
  if (there.length === 0) return "\u2013";
  if (there.length === 1) return number(there[0][1]);
  return there.map(([family, value]) => `${FAMILIES[family] ?? family} ${number(value)}`).join(", ");
}

/** The same where there is little room: "1,200 + 40", IPv4 first. */
export function eachFamily(values) {
  const there = Object.keys(FAMILIES).filter((family) => family in (values ?? {}));
  return there.map((family) => number(values[family])).join(" + ") || "\u2013";
}

export function sum(values) {
  return Object.values(values ?? {}).reduce((total, one) => total + one, 0);
}

export const FAMILIES = { ipv4: "IPv4", ipv6: "IPv6" };

/** Text order in which node-9 comes before node-10. */
const COLLATOR = new Intl.Collator("en", { numeric: true });
export const compareTexts = COLLATOR.compare;

/** Addresses and prefixes of the same width in a prefix: sizes as a power of two for a length. */
export function prefixSize(cidr) {
  const [address, length] = String(cidr).split("/");
  const width = address.includes(":") ? 128 : 32;
  return 2 ** (width - Number(length ?? width));
}

/** A size for people: 256, 65,536, or 2^64. */
export function size(value) {
  return value > 1e9 ? `2^${Math.round(Math.log2(value))}` : number(value);
}
