// Numbers and times as people read them. Pure; the viewer's own zone and clock habits come from the browser.

const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

/** Bytes in decimal units, three significant digits: 30.2 MB. */
export function bytes(count: number | null | undefined): string {
  if (count == null || !Number.isFinite(count)) return "–";
  let value = Math.abs(count);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  const text = value.toFixed(digits);
  const short = text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  return `${count < 0 ? "−" : ""}${short} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond: number | null | undefined): string {
  return bytesPerSecond == null ? "–" : `${bytes(bytesPerSecond)}/s`;
}

/** A length of time in its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const pairs: [number, string, number, string][] = [
    [60, "min", 1, "s"],
    [3600, "h", 60, "min"],
    [86400, "d", 3600, "h"],
  ];
  const pair = whole < 3600 ? pairs[0]! : whole < 86400 ? pairs[1]! : pairs[2]!;
  const [big, bigName, small, smallName] = pair;
  const high = Math.floor(whole / big);
  const low = Math.floor((whole % big) / small);
  return low && high < 10 * (big === 60 ? 6 : 1) ? `${high} ${bigName} ${low} ${smallName}` : `${high} ${bigName}`;
}

/** A position or length in a video: 0:07, 12:34, 1:02:03. */
export function clock(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Seconds between an RFC 3339 time and now; null for none. */
export function ageSeconds(iso: string | null | undefined, now: number): number | null {
  if (!iso) return null;
  const at = Date.parse(iso);
  return Number.isNaN(at) ? null : Math.max(0, (now - at) / 1000);
}

/** How long ago, in one unit: now, 12 s, 5 min, 3 h, 2 d. */
export function ago(iso: string | null | undefined, now: number): string {
  const age = ageSeconds(iso, now);
  if (age == null) return "–";
  if (age < 2) return "now";
  if (age < 60) return `${Math.floor(age)} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return `${Math.floor(age / 86400)} d ago`;
}

/** What formats dates in this way. Made when it is first needed and kept: making one takes longer than using it. */
function format(options: Intl.DateTimeFormatOptions): (at: Date) => string {
  let made: Intl.DateTimeFormat | null = null;
  return (at) => (made ??= new Intl.DateTimeFormat(undefined, options)).format(at);
}

const time: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const toMinute = format(time);
const toSecond = format({ ...time, second: "2-digit" });
const withDay = format({ day: "numeric", month: "short", ...time });
const whole = format({ dateStyle: "medium", timeStyle: "long" });

/** An instant in the viewer's zone: 14:03:09 today, otherwise 24 Nov 14:03. */
export function instant(iso: string | null | undefined, now: number, seconds = true): string {
  if (!iso) return "–";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "–";
  const sameDay = at.toDateString() === new Date(now).toDateString();
  return (sameDay ? (seconds ? toSecond : toMinute) : withDay)(at);
}

/** The whole instant with its zone, for tooltips. */
export function fullInstant(iso: string | null | undefined): string {
  if (!iso) return "";
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : whole(at);
}

/** A share of 0 to 1 as whole percent; 100 % only when it is all. */
export function share(part: number | null | undefined): string {
  if (part == null || !Number.isFinite(part)) return "–";
  const whole = part >= 1 ? 100 : Math.min(99, Math.max(0, Math.floor(part * 100)));
  return `${whole} %`;
}

export function percent(value: number | null | undefined): string {
  return value == null || !Number.isFinite(value) ? "–" : `${Math.round(value)} %`;
}

/** A whole number with thin groups: 12 345. */
export function count(value: number | null | undefined): string {
  return value == null ? "–" : String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A rate of things a minute: 0, 0.2, 12. */
export function perMinute(value: number | null | undefined): string {
  if (value == null) return "–";
  if (value === 0) return "0";
  return value < 0.095 ? "<0.1" : value < 9.95 ? value.toFixed(1) : count(value);
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** The last six characters of an id, enough to tell jobs apart by eye. */
export function shortId(id: string): string {
  return id.slice(-6);
}
