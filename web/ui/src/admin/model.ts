// The status document and the answers of /api/admin, as far as the operations pages read them.

import type { BoxEvent, Job, Mode, Stage, StoredEvent } from "../core/model.ts";

export interface StageQueue {
  pending: number;
  in_flight: number;
  redelivered: number;
  oldest_s: number | null;
  done_per_min: number;
}

export interface Worker {
  worker: string;
  stage: Stage;
  state: "idle" | "working" | "stuck";
  pid: number;
  host: string;
  started_at: string;
  job: string | null;
  clip: number | null;
  progress: number | null;
  progress_age_s: number | null;
  rss_bytes: number;
}

export interface StageWorkers {
  online: number;
  working: number;
  stuck: number;
  min: number;
  max?: number;
}

export interface Workers {
  online: number;
  working: number;
  stuck: number;
  stages: Record<Stage, StageWorkers>;
  workers: Worker[];
  offline: { worker: string; stage: Stage; since: string; reason: string | null }[];
}

export interface Period {
  start: string;
  jobs: number;
  completed: number;
  failed: number;
  clips_ready: number;
  clips_failed: number;
  minutes_in: number;
  stages: Partial<Record<Stage, { done: number; failed: number; retried: number; seconds: number }>>;
}

export interface Alert {
  alert: string;
  severity: "info" | "warning" | "critical";
  state: string;
  message: string;
  value: number | null;
  threshold: number | null;
  since: string;
}

export interface Service {
  service: string;
  state: "up" | "down";
  since: string;
  pid: number | null;
  reason: string | null;
  restarts: number;
}

export interface Disk {
  roles: string[];
  path: string;
  device: string | null;
  total_bytes: number;
  free_bytes: number;
  used_percent: number;
  full_in_s: number | null;
  reserve_bytes: number | null;
}

export interface Sample {
  host: string;
  ts: string;
  uptime_s: number;
  cpu: { busy_percent: number | null; cores: number; load_1m: number } | null;
  memory: { total_bytes: number; available_bytes: number; used_percent: number } | null;
  disks: Disk[] | null;
  temperatures: { sensor: string; celsius: number; high_c: number | null; critical_c: number | null }[] | null;
  gpus: {
    state: "none" | "ok" | "failed" | "off";
    note: string;
    cards: {
      name: string | null;
      util_percent: number | null;
      memory_used_bytes: number | null;
      memory_total_bytes: number | null;
      temperature_c: number | null;
    }[];
  } | null;
}

export interface ActiveAlert {
  alert: string;
  acknowledged: boolean;
  muted_by: string | null;
  flapping?: boolean;
}

export interface HostView {
  sample: Sample;
  age_s: number;
  stale: boolean;
  alerts: ActiveAlert[];
}

export interface Hold {
  target: "intake" | Stage;
  holder: string;
  mode: Mode;
  by: string;
  reason: string;
  until: string | null;
}

/** A hold as the document has it. */
export type StoredHold = Omit<Hold, "by"> & { said_by: string };

export interface Document {
  epoch: string;
  seq: number;
  generated_at: string;
  stale: boolean;
  sections: Record<string, { seq: number; generated_at: string }>;
  dashboard: {
    verdict: "ok" | "degraded";
    reasons: string[];
    jobs: Record<string, number>;
    alerts: Record<string, number>;
    today: Period | null;
    holds: StoredHold[];
  } | null;
  agents_workers: Workers | null;
  queue: { pending: number; in_flight: number; oldest_s: number | null; stages: Record<Stage, StageQueue> } | null;
  jobs: { states: Record<string, number>; open: Job[]; newest: Job[]; failed: Job[] } | null;
  analytics: { hours: Period[]; days: Period[] } | null;
  hardware: { hosts: HostView[] } | null;
  alerts: { severities: Record<string, number>; raised: Alert[]; cleared: Alert[] } | null;
  services: { up: number; down: number; services: Service[] } | null;
  events: { minutes: { start: string; count: number }[] } | null;
}

export interface DeadLetterGroup {
  error: string;
  code: string;
  stage: Stage;
  count: number;
  letters: DeadLetter[];
}

export interface DeadLetter {
  id: number;
  job: string;
  clip: number | null;
  name: string;
  attempts: number;
  error: string;
  time: string;
}

export interface Silence {
  id: string;
  rule: string;
  device: string;
  until: string;
  author: string;
  reason: string;
}

export interface AlertList {
  raised: Alert[];
  cleared: Alert[];
  silences: Silence[];
  seen: { alert: string; at: string; author: string; note: string }[];
}

export interface StorageReport {
  path: string;
  total_bytes: number;
  free_bytes: number;
  promised_bytes: number;
  open_jobs: number;
  reserve_bytes: number;
  floor_bytes: number;
  target_bytes: number;
  uses: Record<string, number>;
  largest: {
    job: string;
    name: string;
    state: string;
    pinned: boolean;
    ended_at: string | null;
    bytes: { source_bytes: number; scratch_bytes: number; clip_bytes: number };
  }[];
}

/** A fact as the history routes give it. */
export interface Fact {
  seq: number;
  event: BoxEvent;
}

export interface EventPage {
  events: Fact[];
  next: number | null;
}

export function stored(fact: Fact): StoredEvent {
  return { ...fact.event, seq: fact.seq };
}
