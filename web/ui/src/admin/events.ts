// An event in one line, for people.

import { bytes, clock, duration } from "../core/format.ts";
import type { StoredEvent } from "../core/model.ts";
import { t } from "../core/strings.ts";

export function isBad(event: StoredEvent): boolean {
  if (event.type === "alert:raised") return event.severity !== "info";
  return ["job:failed", "clip:failed", "job:retrying", "worker:offline", "service:down", "cache:degraded"].includes(event.type);
}

/** What the event says beyond its type. Empty when its type says it all. */
export function describe(event: StoredEvent): string {
  const notes = (event.notes as string[] | undefined) ?? [];
  return joined(said(event), ...notes);
}

function said(event: StoredEvent): string {
  const get = (name: string) => event[name];
  const text = (name: string) => (get(name) == null ? "" : String(get(name)));
  switch (event.type) {
    case "job:created":
      return joined((get("origin") as { kind?: string } | undefined)?.kind ?? "", text("owner"));
    case "job:downloaded":
      return joined(clock(get("duration_s") as number), bytes(get("size_bytes") as number), text("video_codec"));
    case "job:transcribed":
      return joined(text("language"), t.events.words(get("words")), text("model"), get("rough") ? t.events.rough : "");
    case "job:analyzed":
      return t.events.moments(get("clips"), get("candidates"));
    case "clip:planned":
      return joined(text("title"), `${clock(get("start_s") as number)}–${clock(get("end_s") as number)}`);
    case "clip:detected":
      return joined(text("detector"), t.events.shots(get("shots")), t.events.people(get("tracks")));
    case "clip:cropped":
      return ((get("layouts") as string[] | undefined) ?? []).join(", ");
    case "clip:ready":
      return joined(bytes(get("size_bytes") as number), text("encoder"));
    case "job:retrying":
    case "job:failed":
    case "clip:failed":
      return joined(stageName(text("stage")), text("error"));
    case "job:completed":
      return joined(t.events.clips(get("clips_ready")), duration(get("seconds") as number));
    case "job:cancelled":
      return joined(text("by"), text("reason"));
    case "job:retried":
      return joined(text("by"), stageName(text("stage")));
    case "job:deleted":
    case "file:pinned":
    case "file:unpinned":
      return text("by");
    case "file:uploaded":
      return joined(text("name"), bytes(get("size_bytes") as number), text("via"));
    case "file:deleted":
      return joined(text("kind"), bytes(get("size_bytes") as number), text("reason"));
    case "worker:online":
    case "worker:offline":
      return joined(stageName(text("stage")), text("reason"), text("host"));
    case "worker:scaled":
      return joined(stageName(text("stage")), `${text("before")} → ${text("after")}`, text("reason"));
    case "control:changed":
      return joined(text("target"), text("mode"), text("by"), text("reason"));
    case "queue:threshold":
      return joined(stageName(text("stage")), text("level"), t.events.pending(get("depth")));
    case "alert:raised":
    case "alert:cleared":
      return joined(text("severity"), text("message"));
    case "service:down":
    case "service:up":
      return joined(text("service"), text("reason"));
    case "cache:degraded":
      return text("reason");
    case "user:action":
      return joined(text("user"), text("action"), text("target"));
    default:
      return event.stage ? stageName(text("stage")) : "";
  }
}

function stageName(stage: string): string {
  return (t.stages as Record<string, string>)[stage] ?? stage;
}

function joined(...parts: string[]): string {
  return parts.filter((part) => part && part !== "–").join(" · ");
}

export function matches(event: StoredEvent, wanted: string): boolean {
  const needle = wanted.trim().toLowerCase();
  if (!needle) return true;
  return [event.type, event.job ?? "", describe(event)].some((text) => text.toLowerCase().includes(needle));
}
