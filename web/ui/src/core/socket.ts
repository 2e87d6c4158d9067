// The live feed: one WebSocket that never has a silent gap.
//
// Each event frame carries a stream position (`seq`) and, for each room, that room's own running number. A frame is
// applied when its numbers follow on; when one is missing, the client asks for everything after its last position
// (`resume`) and ignores what comes until the answer: `hello` with the numbers to go on from, then the missed frames, or
// `reset`, which means that the page must take a new snapshot. Silence, a wake from sleep and a page that comes back to
// the front are probed with a ping. Five reconnects with exponential backoff and jitter, then the page polls while this
// goes on trying.

import type { Counters, EventFrame, Frame } from "./model.ts";

export type Connection = "connecting" | "live" | "waiting" | "polling" | "refused";

export interface SocketLike {
  readonly readyState: number;
  onopen: ((this: never, event: never) => void) | null;
  onclose: ((this: never, event: never) => void) | null;
  onmessage: ((this: never, event: never) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface FeedHooks {
  /** An event whose turn it is, each exactly once and in order. */
  event(frame: EventFrame): void;
  /** Frames that are not replayed: progress and telemetry. */
  telemetry(frame: Frame): void;
  /** The page must take a new snapshot and then call `rebase`. */
  reset(reason: string): void;
  connection(state: Connection): void;
  /** Something was heard. */
  heard(): void;
  /** Whether the box's own event bus answers. */
  bus(state: "up" | "down"): void;
  /** Every 30 s while the socket cannot be had, and once at the beginning of that. */
  poll(): void;
  /** A gap was noticed in a room: for the page's own figures. */
  gap?(room: string, expected: number, got: number): void;
}

export interface FeedWorld {
  open(url: string): SocketLike;
  url(rooms: readonly string[], position: { epoch: string; seq: number } | null): string;
  now(): number;
  random(): number;
  after(ms: number, run: () => void): number;
  cancel(timer: number): void;
}

export const LIMITS = {
  attempts: 5,
  backoff_ms: 250,
  backoff_max_ms: 2_500,
  steady_ms: 10_000,
  silence_ms: 35_000,
  greeting_ms: 8_000,
  probe_ms: 1_500,
  poll_ms: 30_000,
  answer_ms: 3_000,
  tick_ms: 5_000,
  wake_ms: 12_000,
} as const;

const OPEN = 1;
const NOT_ALLOWED = [4401, 4403];

export class Feed {
  epoch: string | null = null;
  seq: number | null = null;
  gaps = 0;
  resumes = 0;

  private readonly rooms = new Set<string>();
  private counts: Counters = {};
  private socket: SocketLike | null = null;
  private attempts = 0;
  private stopped = true;
  private greeted = false;
  /** What was said and is not yet answered by a `hello`, oldest first. */
  private unanswered: ("open" | "join" | "leave" | "resume")[] = [];
  private lastHeard = 0;
  private lastTick = 0;
  private retryTimer: number | null = null;
  private steadyTimer: number | null = null;
  private pollTimer: number | null = null;
  private probeTimer: number | null = null;
  private answerTimer: number | null = null;
  private tickTimer: number | null = null;
  private state: Connection = "connecting";
  private readonly hooks: FeedHooks;
  private readonly world: FeedWorld;

  constructor(rooms: readonly string[], hooks: FeedHooks, world: FeedWorld) {
    for (const room of rooms) this.rooms.add(room);
    this.hooks = hooks;
    this.world = world;
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.lastTick = this.world.now();
    this.tick();
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.clear();
    this.drop();
  }

  /** Whether positions of `epoch` mean something to the feed: it is of that stream, or of none yet. */
  isOf(epoch: string): boolean {
    return this.epoch == null || this.epoch === epoch;
  }

  /** The page's snapshot includes everything up to `seq` of `epoch`: what comes after it is asked for if need be. */
  rebase(epoch: string, seq: number): void {
    const behind = this.epoch !== epoch || this.seq == null || seq < this.seq;
    this.epoch = epoch;
    this.seq = seq;
    if (this.greeted && behind) this.resume();
  }

  join(...rooms: string[]): void {
    const fresh = rooms.filter((room) => !this.rooms.has(room));
    for (const room of fresh) this.rooms.add(room);
    if (fresh.length && this.greeted) this.ask("join", { rooms: fresh });
  }

  leave(...rooms: string[]): void {
    const left = rooms.filter((room) => this.rooms.delete(room));
    for (const room of left) delete this.counts[room];
    if (left.length && this.greeted) this.ask("leave", { rooms: left });
  }

  /** The page came to the front, the network came back or the machine woke: is the socket alive? Answers in 1.5 s. */
  probe(): void {
    if (this.stopped) return;
    if (this.socket == null || this.socket.readyState !== OPEN) {
      if (this.state !== "connecting") this.connectNow();
      return;
    }
    if (this.probeTimer != null) return;
    this.say({ kind: "ping" });
    this.probeTimer = this.world.after(LIMITS.probe_ms, () => {
      this.probeTimer = null;
      this.lost();
    });
  }

  /** A person asked to try now. */
  connectNow(): void {
    if (this.stopped) return;
    this.attempts = 0;
    this.cancel("retryTimer");
    this.drop();
    this.connect();
  }

  // ---- connection -------------------------------------------------------------------------------------------------

  private connect(): void {
    if (this.state !== "polling") this.set("connecting");
    this.greeted = false;
    let socket: SocketLike;
    try {
      const position = this.epoch != null && this.seq != null ? { epoch: this.epoch, seq: this.seq } : null;
      socket = this.world.open(this.world.url([...this.rooms], position));
    } catch {
      this.again();
      return;
    }
    this.socket = socket;
    this.counts = {};
    this.unanswered = ["open"];
    this.lastHeard = this.world.now();
    const mine = <T>(run: (value: T) => void) => ((value: T) => {
      if (this.socket === socket) run(value);
    }) as never;
    socket.onmessage = mine((message: { data: unknown }) => this.received(String(message.data)));
    socket.onclose = mine((close: { code?: number }) => this.closed(close.code ?? 1006));
  }

  private closed(code: number): void {
    this.drop();
    if (NOT_ALLOWED.includes(code)) {
      this.clear();
      this.stopped = true;
      this.set("refused");
      return;
    }
    this.again();
  }

  private lost(): void {
    this.drop();
    this.again();
  }

  private again(): void {
    if (this.stopped || this.retryTimer != null) return;
    this.attempts += 1;
    if (this.attempts > LIMITS.attempts) this.beginPolling();
    else if (this.state !== "polling") this.set("waiting");
    const most = Math.min(LIMITS.backoff_max_ms, LIMITS.backoff_ms * 2 ** (this.attempts - 1));
    const wait = most / 2 + this.world.random() * (most / 2);
    this.retryTimer = this.world.after(wait, () => {
      this.retryTimer = null;
      this.connect();
    });
  }

  private beginPolling(): void {
    if (this.state === "polling") return;
    this.set("polling");
    const poll = () => {
      this.hooks.poll();
      this.pollTimer = this.world.after(LIMITS.poll_ms, poll);
    };
    poll();
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.greeted = false;
    this.unanswered = [];
    for (const timer of ["probeTimer", "answerTimer", "steadyTimer"] as const) this.cancel(timer);
    if (socket) {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }

  private tick(): void {
    this.tickTimer = this.world.after(LIMITS.tick_ms, () => this.tick());
    const now = this.world.now();
    const slept = now - this.lastTick > LIMITS.wake_ms;
    this.lastTick = now;
    const allowed = this.greeted ? LIMITS.silence_ms : LIMITS.greeting_ms;
    if (this.socket && now - this.lastHeard > allowed) this.lost();
    else if (slept) this.probe();
  }

  // ---- frames -----------------------------------------------------------------------------------------------------

  private received(text: string): void {
    this.lastHeard = this.world.now();
    this.cancel("probeTimer");
    const frame = JSON.parse(text) as Frame;
    this.hooks.heard();
    switch (frame.kind) {
      case "hello":
        this.hello(frame);
        break;
      case "event":
        this.eventFrame(frame);
        break;
      case "heartbeat":
        this.hooks.bus(frame.bus);
        this.heartbeat(frame);
        break;
      case "reset":
        // The `hello` before it has brought the rooms' numbers.
        this.epoch = frame.epoch;
        this.seq = frame.seq;
        this.hooks.reset(frame.reason);
        break;
      default:
        this.hooks.telemetry(frame);
    }
  }

  private hello(frame: { epoch: string; seq: number; rooms: Counters; bus: "up" | "down" }): void {
    const answers = this.unanswered.shift() ?? "open";
    if (!this.unanswered.length) this.cancel("answerTimer");
    if (!this.greeted) this.welcome();
    this.hooks.bus(frame.bus);
    const before = this.counts;
    this.counts = { ...frame.rooms };
    if (this.epoch == null || this.seq == null) {
      this.epoch = frame.epoch;
      this.seq = frame.seq;
    }
    // A room may have moved on between its last frame and this answer; then that frame was lost.
    const asks = answers === "join" || answers === "leave";
    if (asks && this.ahead(frame.rooms, before)) this.resume();
  }

  private welcome(): void {
    this.greeted = true;
    this.cancel("pollTimer");
    this.set("live");
    this.steadyTimer = this.world.after(LIMITS.steady_ms, () => {
      this.steadyTimer = null;
      this.attempts = 0;
    });
  }

  private eventFrame(frame: EventFrame): void {
    // What comes before the answer to `resume` comes again with it.
    if (this.unanswered.includes("resume")) return;
    if (this.seq != null && frame.seq <= this.seq) {
      // The snapshot has it already.
      this.advance(frame.rooms);
      return;
    }
    const expected = Object.fromEntries(Object.entries(this.counts).map(([room, last]) => [room, last + 1]));
    if (this.ahead(frame.rooms, expected)) {
      this.resume();
      return;
    }
    this.advance(frame.rooms);
    this.seq = frame.seq;
    this.hooks.event(frame);
  }

  private heartbeat(frame: { seq: number; rooms: Counters }): void {
    if (this.unanswered.includes("resume")) return;
    if (this.ahead(frame.rooms, this.counts)) this.resume();
    else if (this.seq != null && frame.seq > this.seq) this.seq = frame.seq;
  }

  /** Whether a room that we are in has a higher number than `expected`: a frame of it was lost. */
  private ahead(rooms: Counters, expected: Counters): boolean {
    for (const [room, number] of Object.entries(rooms)) {
      const most = expected[room];
      if (most == null || !this.rooms.has(room) || number <= most) continue;
      this.gaps += 1;
      this.hooks.gap?.(room, most, number);
      return true;
    }
    return false;
  }

  private advance(rooms: Counters): void {
    for (const [room, number] of Object.entries(rooms)) {
      const last = this.counts[room];
      if (last != null && number > last) this.counts[room] = number;
    }
  }

  private resume(): void {
    this.resumes += 1;
    this.ask("resume", { epoch: this.epoch, seq: this.seq });
  }

  // ---- small things -----------------------------------------------------------------------------------------------

  /** Something that is answered by a `hello`; a socket that does not answer is replaced. */
  private ask(kind: "join" | "leave" | "resume", content: object): void {
    this.unanswered.push(kind);
    this.say({ kind, ...content });
    this.answerTimer ??= this.world.after(LIMITS.answer_ms, () => {
      this.answerTimer = null;
      this.lost();
    });
  }

  private say(message: object): void {
    if (this.socket?.readyState === OPEN) this.socket.send(JSON.stringify(message));
  }

  private set(state: Connection): void {
    if (this.state === state) return;
    this.state = state;
    this.hooks.connection(state);
  }

  private cancel(
    timer: "retryTimer" | "steadyTimer" | "pollTimer" | "probeTimer" | "answerTimer" | "tickTimer",
  ): void {
    const id = this[timer];
    if (id != null) this.world.cancel(id);
    this[timer] = null;
  }

  private clear(): void {
    for (const timer of ["retryTimer", "steadyTimer", "pollTimer", "probeTimer", "answerTimer", "tickTimer"] as const) {
      this.cancel(timer);
    }
  }
}
