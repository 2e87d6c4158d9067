// What the upload page knows: the newest jobs, their clips where somebody looks, and the feed that keeps both right.

import { signal } from "@preact/signals";
import { get, Problem, query, post } from "../core/api.ts";
import { catchUp, Live } from "../core/live.ts";
import type { Clip, Forecast, Frame, Job, ProgressFrame } from "../core/model.ts";
import { JobStore } from "../core/store.ts";
import { may } from "../parts/frame.tsx";

const PAGE = 24;
const MOST_OPEN = 24;

interface JobList {
  jobs: Job[];
  next: string | null;
  epoch?: string;
  seq?: number;
}

export const store = new JobStore();
export const more = signal<string | null>(null);
/** Whether the box takes anything, and what is free. */
export const room = signal<Forecast | null>(null);
/** Jobs whose clips are shown. */
const looked = new Set<string>();
let beyondFirstPage = false;

export const live = new Live({
  rooms: ["jobs"],
  snapshot,
  event(frame) {
    store.event(frame);
    const { type } = frame.event;
    if (type === "job:created" || type === "job:deleted" || type === "job:completed") void readRoom();
  },
  telemetry(frame: Frame) {
    if (frame.kind === "progress") store.progress(frame as ProgressFrame);
  },
});

async function snapshot(): Promise<{ epoch: string; seq: number } | null> {
  void readRoom();
  const answer = await get<JobList>(`/api/jobs${query({ limit: PAGE })}`);
  store.list(answer.jobs, true);
  if (!beyondFirstPage) more.value = answer.next;
  await Promise.all([...looked].slice(-MOST_OPEN).map((id) => readJob(id).catch(ignoreGone)));
  return answer.epoch != null && answer.seq != null ? { epoch: answer.epoch, seq: answer.seq } : null;
}

export async function readMore(): Promise<void> {
  if (!more.value) return;
  const answer = await get<JobList>(`/api/jobs${query({ limit: PAGE, cursor: more.value })}`);
  beyondFirstPage = true;
  store.list(answer.jobs, false);
  more.value = answer.next;
}

async function readJob(id: string): Promise<void> {
  const answer = await get<{ job: Job; clips: Clip[] }>(`/api/jobs/${id}`);
  store.one(answer.job, answer.clips);
}

/** Somebody looks at this job's clips: they are read and kept right. */
export async function look(id: string): Promise<void> {
  looked.add(id);
  try {
    await readJob(id).catch(ignoreGone);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await live.refresh(); // reads what is looked at, again until the box answers
  }
}

export function lookAway(id: string): void {
  looked.delete(id);
}

export async function readRoom(): Promise<void> {
  if (!may("operator")) return;
  try {
    room.value = await get<Forecast>("/api/storage/forecast?size_bytes=0");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

/** A job that is gone has no clips to keep right; any other failure must be tried again. */
function ignoreGone(error: unknown): void {
  if (!(error instanceof Problem) || error.status !== 404) throw error;
}

export async function fetchUrl(url: string, options: IntakeOptions): Promise<void> {
  const [low, high] = options.length ? options.length.split("..").map(Number) : [];
  await post("/api/jobs", {
    url,
    ...(options.clips ? { clips: options.clips } : {}),
    ...(low && high ? { min_length_s: low, max_length_s: high } : {}),
  });
  await catchUp();
}

export interface IntakeOptions {
  clips: number | null;
  length: string;
}
