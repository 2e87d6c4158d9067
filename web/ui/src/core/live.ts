// One page's connection to the box: what it knows, how fresh that is, and the feed that keeps it so.

import { computed, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { get, Problem } from "./api.ts";
import { Feed, type Connection, type FeedWorld } from "./socket.ts";
import type { EventFrame, Frame } from "./model.ts";
import { painted } from "./soon.ts";

export type Freshness = "connecting" | "live" | "polling" | "stale";

/** Ticks once a second while the page is seen; ages are computed from it. */
export const now: Signal<number> = signal(Date.now());
export const connection: Signal<Connection> = signal<Connection>("connecting");
export const bus: Signal<"up" | "down"> = signal<"up" | "down">("up");
/** When the last snapshot was read, ms. */
export const readAt: Signal<number> = signal(0);
const heardAt = signal(0);
const failing = signal(false);

export const freshness = computed<Freshness>(() => {
  switch (connection.value) {
    case "live":
      return bus.value === "up" ? "live" : "stale";
    case "polling":
      return failing.value ? "stale" : "polling";
    case "connecting":
    case "waiting":
      return heardAt.value || failing.value ? "stale" : "connecting";
    case "refused":
      return "stale";
  }
});

/** Seconds since the shown data was known to be right. */
export const ageS = computed(() => {
  const since = freshness.value === "polling" ? readAt.value : Math.max(heardAt.value, readAt.value);
  return since ? Math.max(0, (now.value - since) / 1000) : 0;
});

export interface LiveOptions {
  rooms: readonly string[];
  /** Reads the page's data. Returns the position that it includes, when the answer says. */
  snapshot(): Promise<{ epoch: string; seq: number } | null>;
  event(frame: EventFrame): void;
  telemetry?(frame: Frame): void;
}

const RETRY_MS = [500, 1_000, 2_000, 4_000];

let page: Live | null = null;

/** After a change: while the feed is not live, its result must be read. */
export async function catchUp(): Promise<void> {
  if (freshness.value !== "live") await page?.refresh();
}

export class Live {
  readonly feed: Feed;
  private readonly options: LiveOptions;
  private running: Promise<void> | null = null;
  private again = false;
  /** The feed has no position yet, or lost it: the next snapshot's is where it goes on. */
  private lost = true;
  private wasLive = false;
  private failures = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(options: LiveOptions) {
    this.options = options;
    page = this;
    this.feed = new Feed(
      options.rooms,
      {
        event: (frame) => options.event(frame),
        telemetry: (frame) => options.telemetry?.(frame),
        reset: () => {
          this.lost = true;
          void this.refresh();
        },
        connection: (state) => this.connected(state),
        heard: () => (heardAt.value = Date.now()),
        bus: (state) => this.busIs(state),
        poll: () => void this.refresh(),
      },
      browser(),
    );
  }

  /**
   * First the snapshot, then, when it is painted, the feed from its position. Resolves when the first data is there or
   * has failed.
   */
  async start(): Promise<void> {
    this.watch();
    await this.refresh();
    void painted().then(() => this.feed.start());
  }

  /** Reads the snapshot; while one is being read, once more after it. Failures are tried again while the page is open. */
  refresh(): Promise<void> {
    if (this.running) {
      this.again = true;
      return this.running;
    }
    this.running = this.read().finally(() => {
      this.running = null;
      if (this.again) {
        this.again = false;
        void this.refresh();
      }
    });
    return this.running;
  }

  private async read(): Promise<void> {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    try {
      const position = await this.options.snapshot();
      readAt.value = Date.now();
      failing.value = false;
      if (position && this.lost && !this.feed.isOf(position.epoch)) {
        this.later(); // the box has not yet made its database and its stream agree
        return;
      }
      if (position && this.lost) this.feed.rebase(position.epoch, position.seq);
      this.lost = false;
      this.failures = 0;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      failing.value = true;
      if (error.status === 401) return;
      this.later();
    }
  }

  private later(): void {
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]!;
    this.failures += 1;
    this.timer = setTimeout(() => void this.refresh(), wait);
  }

  private connected(state: Connection): void {
    connection.value = state;
    // The login is over, or may no longer see this: the next answer leads to the login page.
    if (state === "refused") get("/api/me").catch(() => {});
    if (state !== "live") return;
    // What has no sequence (progress, figures of the box) is read again after an absence.
    if (this.wasLive) void this.refresh();
    this.wasLive = true;
  }

  private busIs(state: "up" | "down"): void {
    const before = bus.value;
    bus.value = state;
    if (before === "down" && state === "up") void this.refresh();
  }

  private watch(): void {
    const look = () => {
      if (document.visibilityState === "visible") {
        now.value = Date.now();
        this.feed.probe();
      }
    };
    document.addEventListener("visibilitychange", look);
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      this.feed.start();
      void this.refresh();
    });
    addEventListener("online", look);
    addEventListener("pagehide", () => this.feed.stop());
    setInterval(() => {
      if (document.visibilityState === "visible") now.value = Date.now();
    }, 1_000);
  }
}

function browser(): FeedWorld {
  return {
    open: (url) => new WebSocket(url) as never,
    url(rooms, position) {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      const values = new URLSearchParams({ rooms: rooms.join(",") });
      if (position) {
        values.set("epoch", position.epoch);
        values.set("seq", String(position.seq));
      }
      return `${scheme}://${location.host}/ws?${values.toString()}`;
    },
    now: () => Date.now(),
    random: () => Math.random(),
    after: (ms, run) => setTimeout(run, ms) as unknown as number,
    cancel: (timer) => clearTimeout(timer),
  };
}
