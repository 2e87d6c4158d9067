import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, bytes, clock, count, duration, fullInstant, instant, perMinute, percent, plural, share } from "../src/core/format.ts";

test("bytes have three digits at most and a decimal unit", () => {
  const cases: [number | null, string][] = [
    [0, "0 B"], [999, "999 B"], [1000, "1 KB"], [1234, "1.23 KB"], [30_248_552, "30.2 MB"], [999_499_999, "999 MB"],
    [999_500_000, "1 GB"], [69_123_342_336, "69.1 GB"], [270_553_174_016, "271 GB"], [5e15, "5000 TB"], [null, "–"],
    [-1500, "−1.5 KB"],
  ];
  for (const [given, told] of cases) assert.equal(bytes(given), told);
});

test("durations show their two largest units", () => {
  const cases: [number | null, string][] = [
    [0, "0 s"], [59.4, "59 s"], [59.6, "1 min"], [200, "3 min 20 s"], [3600, "1 h"], [7500, "2 h 5 min"],
    [86400 * 3 + 4 * 3600, "3 d 4 h"], [86400 * 40, "40 d"], [-5, "0 s"], [null, "–"], [NaN, "–"],
  ];
  for (const [given, told] of cases) assert.equal(duration(given), told);
});

test("positions read like a player's", () => {
  assert.equal(clock(7), "0:07");
  assert.equal(clock(754), "12:34");
  assert.equal(clock(3723), "1:02:03");
  assert.equal(clock(null), "–");
});

test("ages use one unit and never the future", () => {
  const now = Date.parse("2026-01-31T12:00:00Z");
  assert.equal(ago("2026-01-31T11:59:59.5Z", now), "now");
  assert.equal(ago("2026-01-31T11:59:18Z", now), "42 s ago");
  assert.equal(ago("2026-01-31T11:54:01Z", now), "5 min ago");
  assert.equal(ago("2026-01-30T12:00:00Z", now), "1 d ago");
  assert.equal(ago("2026-01-31T12:00:30Z", now), "now");
  assert.equal(ago(null, now), "–");
  assert.equal(ago("nonsense", now), "–");
});

test("a share is 100 % only when it is all", () => {
  assert.equal(share(0.9999), "99 %");
  assert.equal(share(1), "100 %");
  assert.equal(share(-0.1), "0 %");
  assert.equal(percent(62.5), "63 %");
});

test("counts, rates and plurals", () => {
  assert.equal(count(1234567), "1\u202f234\u202f567");
  assert.equal(perMinute(0.067), "<0.1");
  assert.equal(perMinute(0.2), "0.2");
  assert.equal(perMinute(0), "0");
  assert.equal(plural(1, "clip"), "1 clip");
  assert.equal(plural(0, "clip"), "0 clips");
});

test("an instant is a time today and a day otherwise, in the viewer's zone", () => {
  const now = new Date(2026, 0, 31, 14, 3, 9);
  assert.equal(instant(now.toISOString(), now.getTime()), "14:03:09");
  assert.equal(instant(now.toISOString(), now.getTime(), false), "14:03");
  const before = instant(new Date(2026, 0, 30, 8, 5).toISOString(), now.getTime());
  assert.match(before, /30/);
  assert.match(before, /08:05/);
  assert.match(fullInstant(now.toISOString()), /2026/);
  for (const nothing of [null, "", "nonsense"]) assert.equal(instant(nothing, 0), "–");
  assert.equal(fullInstant("nonsense"), "");
});
