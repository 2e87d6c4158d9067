// The jobs that the page knows, each in its own signal so that a change draws one card and no list.

import { signal, type Signal } from "@preact/signals";
import { applied, isAfter, merged, progressed, type JobView } from "./jobs.ts";
import type { Clip, EventFrame, Job, ProgressFrame } from "./model.ts";

const KEEP_EVENTS = 1_000;
/** A page that stays open for weeks forgets the oldest jobs beyond so many; a list brings them back. */
export const KEEP_JOBS = 2_000;

export class JobStore {
  private readonly known = new Map<string, Signal<JobView>>();
  private readonly lately: EventFrame[] = [];
  /** Ids of the jobs that are not deleted, newest first. */
  readonly order: Signal<readonly string[]> = signal<readonly string[]>([]);
  /** False until the first list was read. */
  readonly loaded: Signal<boolean> = signal(false);

  get(id: string): Signal<JobView> | undefined {
    return this.known.get(id);
  }

  /** A list as the box gave it. `complete`: jobs that are missing in it and would belong between its ends are gone. */
  list(jobs: readonly Job[], complete: boolean): void {
    const given = new Set(jobs.map((job) => job.job));
    if (complete) {
      const oldest = jobs.at(-1)?.job ?? "";
      for (const id of [...this.known.keys()]) if (!given.has(id) && id >= oldest) this.known.delete(id);
    }
    for (const job of jobs) this.put(merged(this.known.get(job.job)?.peek(), job));
    this.loaded.value = true;
    this.reorder();
  }

  /** One job with its clips as the box gave it. */
  one(job: Job, clips: Clip[]): void {
    this.put(merged(this.known.get(job.job)?.peek(), job, clips));
    this.reorder();
  }

  event(frame: EventFrame): void {
    const id = frame.event.job;
    if (!id) return;
    this.lately.push(frame);
    if (this.lately.length > KEEP_EVENTS) this.lately.splice(0, KEEP_EVENTS / 2);
    const held = this.known.get(id);
    const next = applied(held?.peek(), frame.event);
    if (!next) return;
    if (held) held.value = next;
    else this.known.set(id, signal(next));
    if (!held || next.job.state === "deleted") this.reorder();
  }

  progress(frame: ProgressFrame): void {
    const held = this.known.get(frame.job);
    if (held) held.value = progressed(held.peek(), frame);
  }

  private put(view: JobView): void {
    // The box's read model may be a few events behind the feed: those are applied over what it said. Applying one that
    // is already in it does no harm, since events set states.
    let next = view;
    for (const { event } of this.lately) {
      if (event.job === view.job.job && isAfter(event, view.job.updated_at)) next = applied(next, event) ?? next;
    }
    const held = this.known.get(view.job.job);
    if (held) held.value = next;
    else this.known.set(view.job.job, signal(next));
  }

  private reorder(): void {
    const all = [...this.known.keys()].sort((a, b) => (a < b ? 1 : -1));
    for (const id of all.splice(KEEP_JOBS)) this.known.delete(id);
    const ids = all.filter((id) => this.known.get(id)!.peek().job.state !== "deleted");
    const before = this.order.peek();
    if (ids.length !== before.length || ids.some((id, index) => id !== before[index])) this.order.value = ids;
  }
}
