// What the operations pages know: the status document, kept right by the live feed.
//
// Jobs follow the events at once. Sums (queues, workers, figures) are read again, section by section, soon after an event
// that changes them, and now and then by themselves because ages grow without any event.

import { computed, signal, type Signal } from "@preact/signals";
import { Cached, get, Problem, query } from "../core/api.ts";
import { Live, now } from "../core/live.ts";
import type { Clip, EventFrame, Frame, Job, ProgressFrame, StoredEvent } from "../core/model.ts";
import { painted, soon } from "../core/soon.ts";
import { JobStore } from "../core/store.ts";
import { may } from "../parts/frame.tsx";
import { stored, type AlertList, type Document, type EventPage, type Hold, type HostView, type Sample } from "./model.ts";

export const TAP_MAX = 2_000;
const TAP_FIRST = 100;
const TAP_MS = 200;
const SOON_MS = 400;
const GAP_MS = 2_000;
const ROUTINE_MS = 10_000;
const HISTORY = 300;
const SSOT = "/api/admin/ssot";

/** Null until it was read once; afterwards never again null. */
export const doc: Signal<Document | null> = signal<Document | null>(null);
export const holds: Signal<readonly Hold[]> = signal<readonly Hold[]>([]);
/** Why the last reading failed, null when it did not. */
export const trouble: Signal<Problem | null> = signal<Problem | null>(null);
export const store = new JobStore();
/** The newest events, newest first. */
export const tap: Signal<readonly StoredEvent[]> = signal<readonly StoredEvent[]>([]);
/** Figures of the box over the last minutes: seconds since 1970, then percent. */
export const history: Record<"time" | "cpu" | "memory" | "disk" | "gpu", number[]> = {
  time: [],
  cpu: [],
  memory: [],
  disk: [],
  gpu: [],
};
export const historyTick = signal(0);
/** Count of dead letters, for the navigation; null before it was read. */
export const deadCount: Signal<number | null> = signal<number | null>(null);
/** Whether what the document does not hold was asked for: dead letters, who has seen what, the last events. */
export const restRead = signal(false);

export const host = computed<HostView | null>(() => doc.value?.hardware?.hosts[0] ?? null);
/** Events by what listens to them: pages that show history of their own. */
const listeners = new Set<(event: StoredEvent) => void>();

const whole = new Cached<Document>();

export const live = new Live({
  rooms: ["jobs"],
  snapshot,
  event: arrived,
  telemetry(frame: Frame) {
    if (frame.kind === "progress") store.progress(frame as ProgressFrame);
    if (frame.kind === "host") sampled(frame as unknown as Sample);
  },
});

export async function begin(): Promise<void> {
  live.feed.join(...(may("admin") ? ["admin"] : ["monitoring"]));
  setInterval(() => {
    if (document.visibilityState === "visible") wanted("queue", "agents_workers", "hardware", "dashboard");
  }, ROUTINE_MS);
  await live.start();
}

export function listen(run: (event: StoredEvent) => void): () => void {
  listeners.add(run);
  return () => listeners.delete(run);
}

async function snapshot(): Promise<{ epoch: string; seq: number } | null> {
  try {
    const found = await whole.refresh(SSOT);
    take(found);
    void painted().then(readRest);
    trouble.value = null;
    return { epoch: found.epoch, seq: found.seq };
  } catch (error) {
    if (error instanceof Problem) trouble.value = error;
    throw error;
  }
}

function take(found: Document): void {
  const before = doc.peek();
  const merged = { ...(before ?? found), ...found, sections: { ...before?.sections, ...found.sections } };
  // A section that could not be read now is shown as it was.
  if (before) {
    for (const name of Object.keys(found) as (keyof Document)[]) {
      if (found[name] == null && before[name] != null) Object.assign(merged, { [name]: before[name] });
    }
  }
  doc.value = merged;
  // Later ones are read by themselves, from where they are made: the document learns of a hold after its event.
  if (!before && found.dashboard) holds.value = found.dashboard.holds.map(({ said_by, ...hold }) => ({ ...hold, by: said_by }));
  if (found.jobs) store.list(unique([...found.jobs.open, ...found.jobs.newest, ...found.jobs.failed]), false);
  const first = found.hardware?.hosts[0];
  if (first && !first.stale) remember(first.sample);
}

function unique(jobs: Job[]): Job[] {
  return [...new Map(jobs.map((job) => [job.job, job])).values()];
}

async function readRest(): Promise<void> {
  await Promise.all([readHolds(), readDeadCount(), readSaid(), readTap()]);
  restRead.value = true;
}

/** Events into the tap, each once, newest first. */
function mergeTap(events: readonly StoredEvent[]): void {
  const before = tap.peek();
  const known = new Set(before.map((event) => event.seq));
  const fresh = events.filter((event) => !known.has(event.seq));
  if (fresh.length) tap.value = [...fresh, ...before].sort((a, b) => b.seq - a.seq).slice(0, TAP_MAX);
}

async function readTap(): Promise<void> {
  try {
    const page = await get<EventPage>(`/api/admin/events${query({ limit: TAP_FIRST })}`);
    mergeTap(page.events.map(stored));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

export async function readHolds(): Promise<void> {
  try {
    const answer = await get<{ controls: { holds: Hold[] }[] }>("/api/admin/controls");
    holds.value = answer.controls.flatMap((control) => control.holds);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

export async function readDeadCount(): Promise<void> {
  try {
    const answer = await get<{ groups: { count: number }[] }>("/api/admin/dead-letters");
    deadCount.value = answer.groups.reduce((sum, group) => sum + group.count, 0);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

/** Silences, and which alerts somebody has seen. */
export const said: Signal<Pick<AlertList, "silences" | "seen">> = signal({ silences: [], seen: [] } as Pick<
  AlertList,
  "silences" | "seen"
>);

export async function readSaid(): Promise<void> {
  try {
    said.value = await get<AlertList>("/api/admin/alerts");
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

export async function readJob(id: string): Promise<void> {
  const answer = await get<{ job: Job; clips: Clip[] }>(`/api/jobs/${id}`);
  store.one(answer.job, answer.clips);
}

// ---- Events --------------------------------------------------------------------------------------------------------

/** Sections of the status document that an event of this kind changes. */
const CHANGES: Record<string, readonly string[]> = {
  job: ["dashboard", "jobs", "queue", "analytics", "agents_workers"],
  clip: ["jobs", "queue", "analytics", "agents_workers"],
  file: ["dashboard", "hardware"],
  worker: ["dashboard", "agents_workers"],
  control: ["dashboard", "queue"],
  queue: ["dashboard", "queue", "alerts"],
  alert: ["dashboard", "alerts", "hardware"],
  service: ["dashboard", "services"],
  cache: ["dashboard"],
};

function arrived(frame: EventFrame): void {
  store.event(frame);
  const event: StoredEvent = { ...frame.event, seq: frame.seq };
  pendingTap.push(event);
  drawTapSoon();
  for (const run of listeners) run(event);
  const noun = event.type.split(":")[0]!;
  wanted(...(CHANGES[noun] ?? []));
  if (noun === "control") holdsSoon();
  if (noun === "alert" || (noun === "user" && String(event.action).startsWith("alert."))) saidSoon();
  if (["job:failed", "clip:failed", "job:retried"].includes(event.type)) deadCountSoon();
}

// A burst of events is one question.
const holdsSoon = soon(readHolds, SOON_MS);
const saidSoon = soon(readSaid, SOON_MS);
const deadCountSoon = soon(readDeadCount, SOON_MS);

// A burst of events is drawn five times a second.
const pendingTap: StoredEvent[] = [];
const drawTapSoon = soon(() => mergeTap(pendingTap.splice(0)), TAP_MS);

// ---- Sections, read again when they have changed -------------------------------------------------------------------

const due = new Set<string>();
let timer: ReturnType<typeof setTimeout> | null = null;
let readAt = 0;

function wanted(...sections: readonly string[]): void {
  for (const section of sections) due.add(section);
  if (!due.size || timer) return;
  const wait = Math.max(SOON_MS, readAt + GAP_MS - Date.now());
  timer = setTimeout(() => void readSections(), wait);
}

async function readSections(): Promise<void> {
  timer = null;
  readAt = Date.now();
  const names = [...due];
  due.clear();
  try {
    take(await get<Document>(`/api/admin/ssot${query({ sections: names.join(",") })}`));
    trouble.value = null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    trouble.value = error;
  }
}

// ---- The box's figures ---------------------------------------------------------------------------------------------

function sampled(sample: Sample): void {
  remember(sample);
  const current = doc.peek();
  if (!current) return;
  const hosts = current.hardware?.hosts ?? [];
  const known = hosts.find((each) => each.sample.host === sample.host);
  const fresh: HostView = { alerts: known?.alerts ?? [], sample, age_s: 0, stale: false };
  const others = hosts.filter((each) => each.sample.host !== sample.host);
  doc.value = { ...current, hardware: { hosts: known ? hosts.map((h) => (h === known ? fresh : h)) : [...others, fresh] } };
}

function remember(sample: Sample): void {
  const at = Date.parse(sample.ts) / 1000;
  if (history.time.length && at <= history.time.at(-1)!) return;
  const data = dataDisk(sample);
  history.time.push(at);
  history.cpu.push(sample.cpu?.busy_percent ?? NaN);
  history.memory.push(sample.memory?.used_percent ?? NaN);
  history.disk.push(data?.used_percent ?? NaN);
  history.gpu.push(sample.gpus?.cards[0]?.util_percent ?? NaN);
  if (history.time.length > HISTORY) for (const values of Object.values(history)) values.shift();
  historyTick.value += 1;
}

export function dataDisk(sample: Sample): Sample["disks"] extends (infer D)[] | null ? D | undefined : never {
  return sample.disks?.find((disk) => disk.roles.includes("data")) ?? sample.disks?.[0];
}

/** Seconds since the host's sample was taken. */
export function sampleAgeS(view: HostView): number {
  return Math.max(0, (now.value - Date.parse(view.sample.ts)) / 1000);
}
