// What the server says, as types. Names and units are the API's: times RFC 3339, sizes in bytes, durations in seconds.

export type Stage = "download" | "transcribe" | "moments" | "faces" | "crop" | "cut";
export const STAGES: readonly Stage[] = ["download", "transcribe", "moments", "faces", "crop", "cut"];
export const CLIP_STAGES: readonly Stage[] = ["faces", "crop", "cut"];

export type Role = "viewer" | "operator" | "admin";
export type JobState = "queued" | "running" | "clipping" | "completed" | "failed" | "cancelled" | "deleted";
export type ClipState = "planned" | "running" | "ready" | "failed";

export interface Me {
  user: string;
  role: Role;
  csrf: string;
  claimed: boolean;
}

export interface Progress {
  stage: Stage;
  clip: number | null;
  done: number;
  eta_s: number | null;
}

export interface Job {
  job: string;
  name: string;
  state: JobState;
  stage: Stage | null;
  created_at: string;
  updated_at: string;
  ended_at: string | null;
  duration_s: number | null;
  clips_planned: number | null;
  clips_ready: number;
  clips_failed: number;
  error: string | null;
  error_code: string | null;
  owner: string;
  pinned: boolean;
  progress: Progress | null;
  clips_removed_at?: string | null;
  /** Words and times come from the bundled model and are approximate. */
  rough?: boolean;
  size_bytes?: number | null;
}

export interface ClipUrls {
  video: string;
  thumbnail: string;
  srt: string;
  vtt: string;
}

export interface Clip {
  job: string;
  clip: number;
  state: ClipState;
  stage?: Stage | null;
  title: string;
  score: number;
  reasons: string[];
  start_s: number;
  end_s: number;
  duration_s: number | null;
  size_bytes: number | null;
  error: string | null;
  urls: ClipUrls | null;
}

export interface BoxEvent {
  type: string;
  id: string;
  ts: string;
  source?: string;
  job?: string | null;
  clip?: number | null;
  [field: string]: unknown;
}

export interface StoredEvent extends BoxEvent {
  seq: number;
}

export type Mode = "run" | "pause" | "drain";

export interface Intake {
  open: boolean;
  reason: string | null;
}

export interface Forecast {
  fits: boolean;
  reason: string | null;
  need_bytes: number;
  free_bytes: number;
  reserve_bytes: number;
  intake: Intake;
}

export interface UploadItem {
  id: string;
  name: string;
  size_bytes: number;
  offset_bytes: number;
  state: string;
  expires_at: string | null;
  job: string | null;
}

// ---- The frames of /ws ------------------------------------------------------------------------------------------

export type Counters = Record<string, number>;

export interface EventFrame {
  kind: "event";
  seq: number;
  rooms: Counters;
  event: BoxEvent;
}

export interface ProgressFrame {
  kind: "progress";
  job: string;
  clip?: number | null;
  stage: Stage;
  done: number;
  eta_s: number | null;
}

export interface HostFrame {
  kind: "host";
  [field: string]: unknown;
}

export type Frame =
  | { kind: "hello"; epoch: string; seq: number; rooms: Counters; bus: "up" | "down" }
  | { kind: "heartbeat"; epoch: string; seq: number; rooms: Counters; bus: "up" | "down" }
  | { kind: "reset"; epoch: string; seq: number; reason: string }
  | { kind: "error"; code: string; detail: string }
  | EventFrame
  | ProgressFrame
  | HostFrame;
