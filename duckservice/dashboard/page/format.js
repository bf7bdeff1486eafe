// Values as words: numbers with units, exact money, times, and text that may be hostile.

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const ONE = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const FULL = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium", timeStyle: "long", hourCycle: "h23",
});

export const NONE = "–";
const NARROW = "\u202f"; // a narrow space that no line breaks at

/** 1234567 as "1,234,567", or NONE. */
export const whole = (value) => (value == null ? NONE : GROUPED.format(value));

/** 1234567 as "1.2M", or NONE. */
export const compact = (value) => (value == null ? NONE : COMPACT.format(value));

/** Small numbers with one decimal, larger ones whole. */
export function rate(value) {
  if (value == null) return NONE;
  return value !== 0 && Math.abs(value) < 10 ? ONE.format(value) : GROUPED.format(value);
}

/** 0.986 as "98.6 %". */
export function percent(share) {
  if (share == null) return NONE;
  const value = share * 100;
  return (value > 0 && value < 99.95 ? ONE.format(value) : GROUPED.format(value)) + NARROW + "%";
}

/** Milliseconds as "0.4 ms", "275 ms", "1.24 s", "3 min 5 s". */
export function millis(value) {
  if (value == null) return NONE;
  if (value < 10) return ONE.format(value) + NARROW + "ms";
  if (value < 1000) return Math.round(value) + NARROW + "ms";
  if (value < 60_000) return (value / 1000).toFixed(value < 9995 ? 2 : 1) + NARROW + "s";
  return span(value / 1000);
}

/** Seconds as "12 s", "3 min 5 s", "2 h 5 min", "3 d 4 h". */
export function span(seconds) {
  if (seconds == null) return NONE;
  const s = Math.max(0, Math.round(seconds));
  const join = (a, unit, b, small) => `${a}${NARROW}${unit}` + (b ? ` ${b}${NARROW}${small}` : "");
  if (s < 60) return `${s}${NARROW}s`;
  if (s < 3600) return join(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86_400) return join(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return join(Math.floor(s / 86_400), "d", Math.floor((s % 86_400) / 3600), "h");
}

/** Bytes as "3.2 MiB". */
export function bytes(value) {
  if (value == null) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return (unit ? ONE.format(size) : size) + NARROW + units[unit];
}

/** An exact decimal string as dollars: all its digits, at least two behind the point. */
export function exactUsd(text) {
  if (text == null) return NONE;
  const [, sign, before, after = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text)) ?? [];
  if (before === undefined) return `$${text}`;
  return `${sign}$${before.replace(/\B(?=(\d{3})+$)/g, ",")}.${after.replace(/0+$/, "").padEnd(2, "0")}`;
}

/** The same for the eye: cents from a dollar on, below it four digits behind the point. */
export function usd(text) {
  if (text == null) return NONE;
  const value = Number(text);
  if (!Number.isFinite(value)) return exactUsd(text);
  const digits = value === 0 || Math.abs(value) >= 1 ? 2 : Math.abs(value) >= 0.0001 ? 4 : 6;
  return "$" + value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Epoch seconds as a clock's time. */
export const clock = (at) => CLOCK.format(at * 1000);

/** Epoch seconds in full, for titles. */
export const full = (at) => FULL.format(at * 1000);

/** Epoch seconds against now: "12 s ago", "in 5 min". */
export function relative(at, now) {
  const seconds = at - now;
  if (Math.abs(seconds) < 1) return "now";
  const brief = coarse(Math.abs(seconds));
  return seconds > 0 ? `in ${brief}` : `${brief} ago`;
}

function coarse(seconds) {
  const [size, unit] =
    seconds < 60 ? [1, "s"] : seconds < 3600 ? [60, "min"] : seconds < 86_400 ? [3600, "h"] : [86_400, "d"];
  return `${Math.floor(seconds / size)}${NARROW}${unit}`;
}

// Control characters, bidirectional overrides, invisible marks, halves of pairs. The joiners
// U+200C and U+200D stay: emoji and several scripts are written with them.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

/** Split text into strings and {code} for what an eye would not see, or be deceived by. */
export function pieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) found.push(text.slice(end, match.index));
    found.push({ code: "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0") });
    end = match.index + match[0].length;
  }
  if (end < text.length) found.push(text.slice(end));
  return found;
}

/** The same as one string, for attributes. */
export const plain = (text) =>
  pieces(String(text)).map((piece) => (typeof piece === "string" ? piece : `⟨${piece.code}⟩`)).join("");
