import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { painted, soon } from "../src/core/soon.ts";

test("a burst is one run, what comes later another", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let runs = 0;
  const call = soon(() => (runs += 1), 100);
  for (let each = 0; each < 500; each += 1) call();
  assert.equal(runs, 0);
  mock.timers.tick(100);
  assert.equal(runs, 1);
  call();
  mock.timers.tick(100);
  assert.equal(runs, 2);
  mock.timers.reset();
});

test("painted waits for the frame after the next, or for a moment when there is none", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const frames: FrameRequestCallback[] = [];
  globalThis.requestAnimationFrame = (run) => frames.push(run);
  const seen: string[] = [];
  const settle = () => new Promise((done) => setImmediate(done));
  void painted().then(() => seen.push("shown"));
  frames.shift()!(0);
  await settle();
  assert.equal(seen.length, 0, "this frame is drawn after its callbacks");
  frames.shift()!(16);
  await settle();
  assert.deepEqual(seen, ["shown"]);
  void painted().then(() => seen.push("hidden"));
  mock.timers.tick(1_000);
  await settle();
  assert.deepEqual(seen, ["shown", "hidden"]);
  mock.timers.reset();
});
