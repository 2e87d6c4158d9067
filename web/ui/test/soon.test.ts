import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { soon } from "../src/core/soon.ts";

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
