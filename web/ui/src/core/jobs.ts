// Jobs and clips as the events change them: the same rules as the box's own read model, so that a page that follows the
// live feed shows what the next snapshot will say. Pure.

import type { BoxEvent, Clip, Job, Progress, ProgressFrame, Stage } from "./model.ts";
import { CLIP_STAGES, STAGES } from "./model.ts";

export interface JobView {
  job: Job;
  clips: Clip[];
  /** Clips were fetched or have been followed since the job's beginning. */
  clipsKnown: boolean;
  /** Of the running stages, by clip number (0: the job itself). */
  progress: Record<number, Progress>;
  retry: { stage: Stage; clip: number | null; attempt: number; at: string; error: string } | null;
}

const STARTS: Record<string, Stage> = {
  "job:downloading": "download",
  "job:transcribing": "transcribe",
  "job:analyzing": "moments",
  "job:detecting": "faces",
  "job:cropping": "crop",
  "job:cutting": "cut",
};
const ENDS: Record<string, Job["state"]> = {
  "job:completed": "completed",
  "job:failed": "failed",
  "job:cancelled": "cancelled",
  "job:deleted": "deleted",
};

export function isOpen(job: Job): boolean {
  return job.state === "queued" || job.state === "running" || job.state === "clipping";
}

export function fromJob(job: Job): JobView {
  const view: JobView = { job, clips: [], clipsKnown: false, progress: {}, retry: null };
  if (job.progress) view.progress[job.progress.clip ?? 0] = job.progress;
  return view;
}

/** A fetched job over what the page knows. What only the page knows (progress, a waiting retry) stays. */
export function merged(known: JobView | undefined, fetched: Job, clips?: Clip[]): JobView {
  const job = { ...fetched, pinned: fetched.pinned ?? known?.job.pinned ?? false };
  const view = fromJob(job);
  if (known && isOpen(job)) {
    view.progress = { ...known.progress, ...view.progress };
    view.retry = known.retry;
  }
  if (clips) {
    view.clips = clips;
    view.clipsKnown = true;
  } else if (known) {
    view.clips = known.clips;
    view.clipsKnown = known.clipsKnown;
  }
  return view;
}

/** Whether the event happened after the read model's row was last written. Both are RFC 3339 UTC, to the microsecond. */
export function isAfter(event: BoxEvent, updatedAt: string): boolean {
  return micros(event.ts) > micros(updatedAt);
}

function micros(iso: string): string {
  const fraction = /\.(\d+)/.exec(iso)?.[1] ?? "";
  return iso.slice(0, 19) + fraction.padEnd(6, "0").slice(0, 6);
}

/** The job after the event; undefined when the page does not know the job and the event does not create it. */
export function applied(view: JobView | undefined, event: BoxEvent): JobView | undefined {
  const id = event.job;
  if (!id) return view;
  if (!view) return event.type === "job:created" ? created(event) : undefined;
  const job: Job = { ...view.job, updated_at: event.ts };
  const next: JobView = { ...view, job };
  const stage = STARTS[event.type];
  if (stage) return started(next, event, stage);
  const end = ENDS[event.type];
  if (end) return ended(next, event, end);
  switch (event.type) {
    case "job:downloaded":
      job.duration_s = event.duration_s as number;
      job.size_bytes = event.size_bytes as number;
      return stageDone(next, "transcribe");
    case "job:transcribed":
      job.rough = event.rough as boolean;
      return stageDone(next, "moments");
    case "job:analyzed":
      job.state = "clipping";
      job.clips_planned = event.clips as number;
      next.clipsKnown = true;
      return stageDone(next, "faces");
    case "clip:planned":
      return withClip(next, planned(event));
    case "clip:detected":
      return changeClip(next, event, { stage: "crop" });
    case "clip:cropped":
      return changeClip(next, event, { stage: "cut" });
    case "clip:ready":
      return counted(
        changeClip(next, event, {
          state: "ready",
          stage: null,
          duration_s: event.duration_s as number,
          size_bytes: event.size_bytes as number,
          error: null,
          urls: urlsOf(id, event.clip as number),
        }),
        view,
        event,
      );
    case "clip:failed":
      return counted(changeClip(next, event, { state: "failed", error: event.error as string }), view, event);
    case "job:retrying":
      next.retry = {
        stage: event.stage as Stage,
        clip: event.clip ?? null,
        attempt: event.attempt as number,
        at: event.next_try_at as string,
        error: event.error as string,
      };
      return next;
    case "job:retried":
      return retried(next, event);
    case "file:pinned":
      job.pinned = true;
      return next;
    case "file:unpinned":
      job.pinned = false;
      return next;
    default:
      return next;
  }
}

/** A running stage reports. */
export function progressed(view: JobView, frame: ProgressFrame): JobView {
  const clip = frame.clip ?? null;
  const progress: Progress = { stage: frame.stage, clip, done: frame.done, eta_s: frame.eta_s };
  return { ...view, progress: { ...view.progress, [clip ?? 0]: progress } };
}

function created(event: BoxEvent): JobView {
  const origin = event.origin as { name: string };
  const job: Job = {
    job: event.job as string,
    name: origin.name,
    state: "queued",
    stage: "download",
    created_at: event.ts,
    updated_at: event.ts,
    ended_at: null,
    duration_s: null,
    clips_planned: null,
    clips_ready: 0,
    clips_failed: 0,
    error: null,
    error_code: null,
    owner: (event.owner as string) ?? "",
    pinned: false,
    progress: null,
  };
  return { job, clips: [], clipsKnown: true, progress: {}, retry: null };
}

function started(view: JobView, event: BoxEvent, stage: Stage): JobView {
  if (!isOpen(view.job)) return view;
  const clip = event.clip ?? null;
  const progress = { ...view.progress, [clip ?? 0]: { stage, clip, done: 0, eta_s: null } };
  const retry = view.retry && view.retry.stage === stage && view.retry.clip === clip ? null : view.retry;
  if (clip == null) {
    return { ...view, job: { ...view.job, state: "running", stage }, progress, retry };
  }
  return changeClip({ ...view, progress, retry }, event, { state: "running", stage });
}

function stageDone(view: JobView, following: Stage): JobView {
  const { 0: _, ...progress } = view.progress;
  return { ...view, progress, job: { ...view.job, stage: following } };
}

function ended(view: JobView, event: BoxEvent, state: Job["state"]): JobView {
  const job = { ...view.job, state, stage: null, ended_at: event.ts };
  if (state === "failed") {
    job.error = (event.error as string) ?? null;
    job.error_code = (event.code as string) ?? null;
  }
  if (state === "cancelled") job.error = (event.reason as string) || null;
  return { ...view, job, progress: {}, retry: null };
}

function planned(event: BoxEvent): Clip {
  const [job, clip] = [event.job as string, event.clip as number];
  return {
    job,
    clip,
    state: "planned",
    stage: "faces",
    title: event.title as string,
    score: event.score as number,
    reasons: event.reasons as string[],
    start_s: event.start_s as number,
    end_s: event.end_s as number,
    duration_s: null,
    size_bytes: null,
    error: null,
    urls: urlsOf(job, clip),
  };
}

/** The routes of a clip's files. */
export function urlsOf(job: string, clip: number): NonNullable<Clip["urls"]> {
  const base = `/api/clips/${job}/${clip}`;
  return {
    video: `${base}/video`,
    thumbnail: `${base}/thumbnail`,
    srt: `${base}/captions.srt`,
    vtt: `${base}/captions.vtt`,
  };
}

function withClip(view: JobView, clip: Clip): JobView {
  if (view.clips.some((known) => known.clip === clip.clip)) return view;
  return { ...view, clips: [...view.clips, clip].sort((a, b) => a.clip - b.clip) };
}

function changeClip(view: JobView, event: BoxEvent, change: Partial<Clip>): JobView {
  const number = event.clip;
  if (number == null) return view;
  const clips = view.clips.map((clip) => (clip.clip === number ? { ...clip, ...change } : clip));
  if (change.state === "running" || change.state === "planned") return { ...view, clips };
  const { [number]: _, ...progress } = view.progress;
  return { ...view, clips, progress };
}

/** The job's counts after a clip ended. Without the clips at hand the event itself is counted. */
function counted(view: JobView, before: JobView, event: BoxEvent): JobView {
  if (view.clipsKnown && view.clips.length) {
    const of = (state: Clip["state"]) => view.clips.filter((clip) => clip.state === state).length;
    return { ...view, job: { ...view.job, clips_ready: of("ready"), clips_failed: of("failed") } };
  }
  const ready = before.job.clips_ready + (event.type === "clip:ready" ? 1 : 0);
  const failed = before.job.clips_failed + (event.type === "clip:failed" ? 1 : 0);
  return { ...view, job: { ...view.job, clips_ready: ready, clips_failed: failed } };
}

function retried(view: JobView, event: BoxEvent): JobView {
  const stage = event.stage as Stage;
  if (event.clip != null) {
    const next = changeClip(view, event, { state: "planned", stage, error: null });
    const failed = next.clips.filter((clip) => clip.state === "failed").length;
    const job = { ...next.job, clips_failed: next.clipsKnown ? failed : next.job.clips_failed };
    return { ...next, job };
  }
  const state = view.job.clips_planned == null ? "queued" : "clipping";
  // Whatever is not ready goes on, each clip at the stage that a fact of its own will name.
  const clips = view.clips.map((clip): Clip => (clip.state === "ready" ? clip : { ...clip, state: "planned", error: null }));
  return {
    ...view,
    clips,
    retry: null,
    job: { ...view.job, state, stage, ended_at: null, error: null, error_code: null, clips_failed: 0 },
  };
}

// ---- The six-step strip -------------------------------------------------------------------------------------------

export type StepState = "done" | "now" | "todo" | "failed" | "stopped";

export interface Step {
  stage: Stage;
  state: StepState;
  /** 0 to 1 while it works. */
  done: number;
  eta_s: number | null;
}

/** The six steps of a job. The clip stages stand for all its clips together. */
export function jobSteps(view: JobView): Step[] {
  const { job } = view;
  const current = job.stage ? STAGES.indexOf(job.stage) : -1;
  return STAGES.map((stage, index) => {
    if (job.state === "completed") return step(stage, job.clips_ready ? "done" : "failed", 1);
    const isClipStage = CLIP_STAGES.includes(stage);
    if (job.clips_planned != null && isClipStage) return clipStageOfJob(view, stage);
    if (job.clips_planned != null) return step(stage, "done", 1);
    if (job.state === "failed" || job.state === "cancelled" || job.state === "deleted") {
      return step(stage, job.state === "failed" && index === 0 && job.duration_s == null ? "failed" : "stopped", 0);
    }
    if (index < current) return step(stage, "done", 1);
    if (index > current) return step(stage, "todo", 0);
    const running = view.progress[0];
    const is = running?.stage === stage;
    return step(stage, job.state === "queued" && !is ? "todo" : "now", is ? running.done : 0, is ? running.eta_s : null);
  });
}

function clipStageOfJob(view: JobView, stage: Stage): Step {
  const planned = view.job.clips_planned ?? 0;
  if (!planned) return step(stage, "done", 1);
  if (!isOpen(view.job)) {
    return step(stage, view.job.state === "failed" ? "failed" : "stopped", 0);
  }
  let sum = 0;
  let works = false;
  if (view.clipsKnown && view.clips.length) {
    for (const clip of view.clips) {
      const found = clipSteps(view, clip).find((each) => each.stage === stage)!;
      sum += found.state === "done" || found.state === "failed" ? 1 : found.done;
      works ||= found.state === "now";
    }
  } else {
    sum = view.job.clips_ready + view.job.clips_failed;
  }
  const done = Math.min(1, sum / planned);
  return step(stage, done >= 1 ? "done" : works || done > 0 ? "now" : "todo", done);
}

/** The three steps of a clip. */
export function clipSteps(view: JobView, clip: Clip): Step[] {
  const current = clip.stage ? CLIP_STAGES.indexOf(clip.stage) : 0;
  const running = view.progress[clip.clip];
  return CLIP_STAGES.map((stage, index) => {
    if (clip.state === "ready") return step(stage, "done", 1);
    if (index < current) return step(stage, "done", 1);
    if (index > current) return step(stage, isOpen(view.job) ? "todo" : "stopped", 0);
    if (clip.state === "failed") return step(stage, "failed", 0);
    if (!isOpen(view.job)) return step(stage, "stopped", 0);
    const is = running?.stage === stage;
    const state = clip.state === "running" ? "now" : "todo";
    return step(stage, is ? "now" : state, is ? running.done : 0, is ? running.eta_s : null);
  });
}

function step(stage: Stage, state: StepState, done: number, eta_s: number | null = null): Step {
  return { stage, state, done, eta_s };
}
