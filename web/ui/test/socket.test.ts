import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { EventFrame } from "../src/core/model.ts";
import { Feed, LIMITS, type Connection, type FeedWorld, type SocketLike } from "../src/core/socket.ts";

/** A socket and a clock in the test's hands. */
class FakeSocket implements SocketLike {
  readyState = 0;
  onopen = null;
  onclose: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  said: { kind: string; [field: string]: unknown }[] = [];
  closed = false;
  readonly url: URL;
  constructor(url: string) {
    this.url = new URL(url, "ws://box");
  }
  send(text: string) {
    this.said.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
    this.readyState = 3;
  }
  hear(frame: object) {
    this.readyState = 1;
    this.onmessage?.({ data: JSON.stringify(frame) } as never);
  }
  drop(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code } as never);
  }
}

class World implements FeedWorld {
  at = 0;
  sockets: FakeSocket[] = [];
  timers = new Map<number, { at: number; run: () => void }>();
  next = 1;
  open(url: string) {
    const socket = new FakeSocket(url);
    this.sockets.push(socket);
    return socket;
  }
  url(rooms: readonly string[], position: { epoch: string; seq: number } | null) {
    return `/ws?rooms=${rooms.join(",")}${position ? `&epoch=${position.epoch}&seq=${position.seq}` : ""}`;
  }
  now() {
    return this.at;
  }
  random() {
    return 0.5;
  }
  after(ms: number, run: () => void) {
    const id = this.next++;
    this.timers.set(id, { at: this.at + ms, run });
    return id;
  }
  cancel(id: number) {
    this.timers.delete(id);
  }
  /** Time passes; timers run in order. */
  pass(ms: number) {
    const end = this.at + ms;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.at = Math.max(this.at, due[1].at);
      due[1].run();
    }
    this.at = end;
  }
  /** The machine slept: the clock moves on, no timer has run. */
  sleep(ms: number) {
    this.at += ms;
  }
  get socket() {
    return this.sockets.at(-1)!;
  }
}

let world: World;
let feed: Feed;
let events: number[];
let states: Connection[];
let resets: string[];
let polls: number;

beforeEach(() => {
  world = new World();
  [events, states, resets, polls] = [[], [], [], 0];
  feed = new Feed(
    ["jobs"],
    {
      event: (frame) => events.push(frame.seq),
      telemetry: () => {},
      reset: (reason) => resets.push(reason),
      connection: (state) => states.push(state),
      heard: () => {},
      bus: () => {},
      poll: () => (polls += 1),
    },
    world,
  );
});

const hello = (seq: number, jobs: number, epoch = "e1") => ({ kind: "hello", epoch, seq, rooms: { jobs }, bus: "up" });
const beat = (seq: number, jobs: number) => ({ kind: "heartbeat", epoch: "e1", seq, rooms: { jobs }, bus: "up" });
const frame = (seq: number, jobs: number): EventFrame => ({
  kind: "event",
  seq,
  rooms: { jobs },
  event: { type: "job:created", id: "x", ts: "" },
});

test("frames that follow on are applied once each", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.hear(frame(11, 4));
  world.socket.hear(frame(11, 4));
  world.socket.hear(frame(15, 5));
  assert.deepEqual(events, [11, 15]);
  assert.equal(feed.gaps, 0);
  assert.equal(states.at(-1), "live");
});

test("a lost frame is noticed by the next one and comes with the replay", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.hear(frame(11, 4));
  world.socket.hear(frame(13, 6)); // 12 was lost
  assert.deepEqual(events, [11]);
  assert.deepEqual(world.socket.said, [{ kind: "resume", epoch: "e1", seq: 11 }]);
  world.socket.hear(frame(14, 7)); // still before the answer: it comes again
  world.socket.hear(hello(14, 4));
  for (const [seq, number] of [[12, 5], [13, 6], [14, 7], [15, 8]] as const) world.socket.hear(frame(seq, number));
  assert.deepEqual(events, [11, 12, 13, 14, 15]);
  assert.equal(feed.gaps, 1);
});

test("a lost last frame is noticed by the heartbeat", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.hear(beat(12, 4));
  assert.deepEqual(world.socket.said, [{ kind: "resume", epoch: "e1", seq: 10 }]);
  world.socket.hear(hello(12, 3));
  world.socket.hear(frame(12, 4));
  assert.deepEqual(events, [12]);
});

test("a frame lost while a room is joined is noticed by the answer", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  feed.join("admin");
  assert.deepEqual(world.socket.said, [{ kind: "join", rooms: ["admin"] }]);
  world.socket.hear({ ...hello(11, 4), rooms: { jobs: 4, admin: 9 } });
  assert.equal(world.socket.said.at(-1)!.kind, "resume");
});

test("a reset asks the page for a snapshot, and the feed goes on from it", () => {
  feed.start();
  feed.rebase("e1", 5);
  world.socket.hear(hello(90, 3));
  world.socket.hear({ kind: "reset", epoch: "e2", seq: 90, reason: "epoch" });
  assert.deepEqual(resets, ["epoch"]);
  assert.deepEqual([feed.isOf("e1"), feed.isOf("e2")], [false, true], "a snapshot of the old stream must wait");
  feed.rebase("e2", 88);
  assert.deepEqual(world.socket.said.at(-1), { kind: "resume", epoch: "e2", seq: 88 });
  world.socket.hear(hello(91, 2, "e2"));
  world.socket.hear(frame(89, 3));
  world.socket.hear(frame(91, 4));
  assert.deepEqual(events, [89, 91]);
});

test("the snapshot's position is where the feed begins", () => {
  feed.rebase("e1", 42);
  feed.start();
  assert.equal(world.socket.url.searchParams.get("seq"), "42");
  world.socket.hear(hello(50, 7));
  world.socket.hear(frame(43, 8));
  assert.deepEqual(events, [43]);
});

test("a reconnect names the last position", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.hear(frame(11, 4));
  world.socket.drop();
  world.pass(LIMITS.backoff_max_ms);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.socket.url.searchParams.get("seq"), "11");
  assert.equal(world.socket.url.searchParams.get("epoch"), "e1");
});

test("five reconnects with growing waits, then polling every 30 s while it goes on trying", () => {
  feed.start();
  const waits: number[] = [];
  for (let attempt = 0; attempt < LIMITS.attempts; attempt += 1) {
    const before = world.at;
    world.socket.drop();
    while (world.sockets.length < attempt + 2) world.pass(10);
    waits.push(world.at - before);
  }
  assert.deepEqual(states, ["waiting"].concat(Array(4).fill(["connecting", "waiting"]).flat(), ["connecting"]));
  assert.ok(waits.every((wait, index) => index === 0 || wait >= waits[index - 1]!));
  assert.equal(polls, 0);
  world.socket.drop();
  assert.equal(states.at(-1), "polling");
  assert.equal(polls, 1);
  const tried = world.sockets.length;
  for (let second = 0; second < 65; second += 1) {
    world.pass(1_000);
    world.socket.drop();
  }
  assert.equal(polls, 3);
  assert.ok(world.sockets.length > tried + 15, "it goes on trying");
  while (world.socket.closed) world.pass(100);
  world.socket.hear(hello(10, 3));
  assert.equal(states.at(-1), "live");
  world.pass(LIMITS.poll_ms * 2 - LIMITS.silence_ms);
  assert.equal(polls, 3, "no polling while the socket lives");
});

test("the count of attempts starts over only after a steady while", () => {
  feed.start();
  for (let round = 0; round < LIMITS.attempts; round += 1) {
    world.socket.hear(hello(10, 3));
    world.socket.drop();
    world.pass(LIMITS.backoff_max_ms);
  }
  world.socket.drop();
  assert.equal(states.at(-1), "polling", "a socket that opens and falls over and over is no connection");
});

test("silence beyond two heartbeats ends the socket", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.pass(LIMITS.silence_ms - 1_000);
  world.socket.hear(beat(10, 3));
  world.pass(LIMITS.silence_ms - 1_000);
  assert.equal(world.sockets.length, 1);
  world.pass(10_000);
  assert.ok(world.sockets[0]!.closed);
  assert.ok(world.sockets.length > 1);
});

test("after a sleep the socket is probed, and replaced when it is dead", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.pass(LIMITS.tick_ms - 100);
  world.socket.hear(beat(10, 3));
  world.sleep(20_000);
  world.pass(200);
  assert.deepEqual(world.socket.said, [{ kind: "ping" }]);
  world.pass(LIMITS.probe_ms + 1_000);
  assert.equal(world.sockets.length, 2);
  assert.ok(world.sockets[0]!.closed);
});

test("a probe that is answered changes nothing", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  feed.probe();
  world.socket.hear(beat(10, 3));
  world.pass(LIMITS.probe_ms * 2);
  assert.equal(world.sockets.length, 1);
});

test("a socket that never greets is given up", () => {
  feed.start();
  world.pass(LIMITS.greeting_ms + LIMITS.tick_ms + LIMITS.backoff_max_ms);
  assert.ok(world.sockets.length > 1);
});

test("a resume that is not answered ends the socket", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.hear(frame(13, 6));
  world.pass(LIMITS.answer_ms + LIMITS.backoff_max_ms);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.socket.url.searchParams.get("seq"), "10");
});

test("a login that is over ends the feed for good", () => {
  feed.start();
  world.socket.hear(hello(10, 3));
  world.socket.drop(4401);
  assert.equal(states.at(-1), "refused");
  world.pass(120_000);
  assert.equal(world.sockets.length, 1);
});

test("random losses: what is applied is always the whole sequence without a hole", () => {
  let seed = 7;
  const chance = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  feed.rebase("e1", 0);
  feed.start();
  const log: EventFrame[] = [];
  let answered = 0;
  const serve = () => {
    // The box's side: answers each resume with hello and everything after the named position.
    for (; answered < world.socket.said.length; answered += 1) {
      const said = world.socket.said[answered]!;
      if (said.kind !== "resume") continue;
      const missed = log.filter((each) => each.seq > (said.seq as number));
      world.socket.hear(hello(log.at(-1)?.seq ?? 0, log.length - missed.length));
      for (const each of missed) if (chance() > 0.1) world.socket.hear(each);
    }
  };
  world.socket.hear(hello(0, 0));
  for (let round = 1; round <= 2_000; round += 1) {
    const next = frame(round * 3, round);
    log.push(next);
    if (chance() > 0.05) world.socket.hear(next);
    serve();
  }
  for (let beats = 0; beats < 50; beats += 1) {
    world.socket.hear(beat(log.at(-1)!.seq, log.length));
    serve();
  }
  assert.deepEqual(events, log.map((each) => each.seq));
  assert.ok(feed.gaps > 50);
});
