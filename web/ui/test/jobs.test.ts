import assert from "node:assert/strict";
import { test } from "node:test";
import { applied, clipSteps, isAfter, jobSteps, merged, progressed, type JobView } from "../src/core/jobs.ts";
import type { BoxEvent, Job } from "../src/core/model.ts";
import { JobStore, KEEP_JOBS } from "../src/core/store.ts";

const JOB = "01jd3v5n8q2w4e6r8t0y2u4i6p";
let tick = 0;

function event(type: string, more: Partial<BoxEvent> = {}): BoxEvent {
  tick += 1;
  const ts = `2026-01-31T12:00:${String(tick % 60).padStart(2, "0")}.${String(tick).padStart(6, "0")}Z`;
  return { type, id: `e${tick}`, ts, job: JOB, ...more };
}

const CREATED = { origin: { kind: "file", location: "/x", name: "talk.mp4" }, owner: "anna" };
const PLAN = { start_s: 1, end_s: 21, score: 0.8, title: "A moment", reasons: ["why"] };

/** A whole life: two clips, one of them fails. */
function life(): BoxEvent[] {
  tick = 0;
  return [
    event("job:created", CREATED),
    event("job:downloading", { stage: "download" }),
    event("job:downloaded", { duration_s: 60, size_bytes: 1000 }),
    event("job:transcribing", { stage: "transcribe" }),
    event("job:transcribed"),
    event("job:analyzing", { stage: "moments" }),
    event("job:analyzed", { clips: 2 }),
    event("clip:planned", { clip: 1, ...PLAN }),
    event("clip:planned", { clip: 2, ...PLAN }),
    event("job:detecting", { clip: 1, stage: "faces" }),
    event("clip:detected", { clip: 1 }),
    event("job:cropping", { clip: 1, stage: "crop" }),
    event("clip:cropped", { clip: 1 }),
    event("job:cutting", { clip: 1, stage: "cut" }),
    event("clip:ready", { clip: 1, duration_s: 20, size_bytes: 5 }),
    event("job:retrying", { clip: 2, stage: "faces", attempt: 1, error: "boom", next_try_at: "2026-01-31T12:01:00Z" }),
    event("clip:failed", { clip: 2, stage: "faces", error: "boom" }),
    event("job:completed", { clips_ready: 1, clips_failed: 1 }),
  ];
}

function fold(events: BoxEvent[], from?: JobView): JobView {
  let view = from;
  for (const each of events) view = applied(view, each);
  return view!;
}

test("a life ends in the state that the box's read model has", () => {
  const view = fold(life());
  assert.equal(view.job.state, "completed");
  assert.equal(view.job.stage, null);
  assert.equal(view.job.duration_s, 60);
  assert.deepEqual([view.job.clips_planned, view.job.clips_ready, view.job.clips_failed], [2, 1, 1]);
  assert.equal(view.clips[0]!.state, "ready");
  assert.equal(view.clips[0]!.urls!.video, `/api/clips/${JOB}/1/video`);
  assert.equal(view.clips[1]!.state, "failed");
  assert.deepEqual(view.progress, {});
});

test("applying any tail of the events again changes nothing", () => {
  const events = life();
  const whole = fold(events);
  for (let from = 1; from < events.length; from += 1) {
    const again = fold(events.slice(from), whole);
    assert.deepEqual({ ...again.job, updated_at: "" }, { ...whole.job, updated_at: "" }, `from ${from}`);
    assert.deepEqual(
      again.clips.map((clip) => clip.state),
      whole.clips.map((clip) => clip.state),
      `from ${from}`,
    );
  }
});

test("the strip says what is done, what works and what waits", () => {
  const events = life();
  let view = fold(events.slice(0, 4));
  view = progressed(view, { kind: "progress", job: JOB, clip: null, stage: "transcribe", done: 0.4, eta_s: 9 });
  assert.deepEqual(
    jobSteps(view).map((step) => [step.state, step.done]),
    [["done", 1], ["now", 0.4], ["todo", 0], ["todo", 0], ["todo", 0], ["todo", 0]],
  );
  view = fold(events.slice(4, 14), view);
  assert.deepEqual(jobSteps(view).map((step) => step.state), ["done", "done", "done", "now", "now", "now"]);
  assert.deepEqual(clipSteps(view, view.clips[0]!).map((step) => step.state), ["done", "done", "now"]);
  assert.deepEqual(clipSteps(view, view.clips[1]!).map((step) => step.state), ["todo", "todo", "todo"]);
});

test("a cancelled job stops where it was; a retried one goes on", () => {
  const events = life().slice(0, 10);
  let view = fold([...events, event("job:cancelled", { by: "anna", reason: "" })]);
  assert.equal(view.job.state, "cancelled");
  assert.ok(jobSteps(view).slice(3).every((step) => step.state === "stopped"));
  view = fold([event("job:retried", { by: "anna", stage: "faces" })], view);
  assert.equal(view.job.state, "clipping");
  assert.equal(view.job.ended_at, null);
});

test("a job that is retried has no failed clip any more", () => {
  const view = fold([event("job:retried", { by: "anna", stage: "faces" })], fold(life()));
  assert.deepEqual(view.clips.map((clip) => [clip.state, clip.error]), [["ready", null], ["planned", null]]);
  assert.deepEqual([view.job.clips_ready, view.job.clips_failed], [1, 0]);
});

test("a start after the end is void", () => {
  const view = fold([event("job:cancelled"), event("job:detecting", { clip: 1, stage: "faces" })], fold(life().slice(0, 9)));
  assert.equal(view.job.state, "cancelled");
  assert.equal(view.clips[0]!.state, "planned");
});

test("an event of a job that the page does not know creates nothing, unless it is the creation", () => {
  assert.equal(applied(undefined, event("job:failed")), undefined);
  assert.equal(applied(undefined, event("job:created", CREATED))!.job.name, "talk.mp4");
});

test("times are compared to the microsecond, whatever their form", () => {
  const at = (ts: string) => isAfter({ type: "x", id: "", ts }, "2026-01-31T12:00:00.000100+00:00");
  assert.equal(at("2026-01-31T12:00:00.000100Z"), false);
  assert.equal(at("2026-01-31T12:00:00.000101Z"), true);
  assert.equal(at("2026-01-31T12:00:00.0001Z"), false);
  assert.equal(at("2026-01-31T12:00:01Z"), true);
});

test("a fetched job keeps what only the page knows", () => {
  let view = fold(life().slice(0, 4));
  view = progressed(view, { kind: "progress", job: JOB, clip: null, stage: "transcribe", done: 0.4, eta_s: 9 });
  const fetched = { ...view.job, pinned: undefined } as unknown as Job;
  assert.equal(merged(view, fetched).progress[0]!.done, 0.4);
  assert.equal(merged(view, { ...view.job, state: "failed" }).progress[0], undefined);
});

// ---- The store ------------------------------------------------------------------------------------------------------

function frames(events: BoxEvent[]) {
  return events.map((each, index) => ({ kind: "event" as const, seq: index + 1, rooms: {}, event: each }));
}

test("a list that lags behind the feed does not take the page back", () => {
  const store = new JobStore();
  const events = life();
  for (const frame of frames(events)) store.event(frame);
  const behind = fold(events.slice(0, 5)).job;
  store.list([behind], true);
  assert.equal(store.get(JOB)!.value.job.state, "completed");
  assert.equal(store.get(JOB)!.value.job.clips_ready, 1);
});

test("a newer answer with clips replaces what the page made of fewer events", () => {
  const store = new JobStore();
  const events = life();
  for (const frame of frames(events.slice(0, 9))) store.event(frame);
  const view = fold(events);
  store.one(view.job, view.clips);
  assert.equal(store.get(JOB)!.value.job.state, "completed");
});

test("jobs come newest first; deleted and missing ones go", () => {
  const store = new JobStore();
  const job = (id: string, state: Job["state"] = "completed") => ({ ...fold(life()).job, job: id, state });
  store.list([job("c"), job("b"), job("a")], true);
  assert.deepEqual(store.order.value, ["c", "b", "a"]);
  store.event({ kind: "event", seq: 99, rooms: {}, event: { ...event("job:deleted"), job: "b" } });
  assert.deepEqual(store.order.value, ["c", "a"]);
  store.list([job("d"), job("c")], true);
  assert.deepEqual(store.order.value, ["d", "c", "a"], "a is older than the list's end, so the list does not speak of it");
  store.list([job("d"), job("a")], true);
  assert.deepEqual(store.order.value, ["d", "a"]);
});

test("a page that is left open forgets the oldest jobs", () => {
  const store = new JobStore();
  const id = (n: number) => `j${String(n).padStart(6, "0")}`;
  for (let n = 0; n < KEEP_JOBS + 10; n += 1) {
    store.event({ kind: "event", seq: n + 1, rooms: {}, event: { ...event("job:created", CREATED), job: id(n) } });
  }
  assert.equal(store.order.value.length, KEEP_JOBS);
  assert.equal(store.order.value[0], id(KEEP_JOBS + 9));
  assert.equal(store.get(id(9)), undefined);
  assert.ok(store.get(id(10)));
});
