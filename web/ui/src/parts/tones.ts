// Which states are good, bad or underway.

import type { JobState } from "../core/model.ts";
import type { Tone } from "./basics.tsx";

export const JOB_TONES: Record<JobState, Tone> = {
  queued: "idle",
  running: "work",
  clipping: "work",
  completed: "ok",
  failed: "bad",
  cancelled: "idle",
  deleted: "idle",
};
