// Uploads: asked whether they fit, sent in pieces that survive a lost connection, a paused or closed page (tus 1.0).
//
// The box keeps what has arrived; the page keeps only which file belongs to which upload. After a reload the same file
// must be chosen again, since a page may not reopen files by itself; then it goes on where it stopped.

import { signal, type Signal } from "@preact/signals";
import type { Upload } from "tus-js-client";
import { csrfHeader, get, Problem, query, remove } from "../core/api.ts";
import type { Forecast, UploadItem } from "../core/model.ts";
import { t } from "../core/strings.ts";
import type { IntakeOptions } from "./data.ts";

export type UploadState =
  | "checking"
  | "refused"
  | "queued"
  | "sending"
  | "paused"
  | "retrying"
  | "verifying"
  | "done"
  | "failed"
  | "needs-file";

export interface UploadView {
  key: string;
  name: string;
  size: number;
  sent: number;
  state: UploadState;
  /** Bytes a second over the last seconds; null while it does not move. */
  speed: number | null;
  forecast: Forecast | null;
  error: string | null;
  expires_at: string | null;
}

const ENDPOINT = "/api/uploads";
const CHUNK_BYTES = 64 * 1024 * 1024;
const AT_ONCE = 2;
const STALL_MS = 30_000;
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const SPEED_WINDOW_MS = 6_000;
const DRAW_MS = 250;
const REMEMBERED = "uploads";

/** All uploads of this page, in the order they were added. */
export const uploads: Signal<readonly Sending[]> = signal<readonly Sending[]>([]);

export class Sending {
  readonly view: Signal<UploadView>;
  file: File | null;
  readonly options: IntakeOptions;
  private id: string | null;
  private tus: Upload | null = null;
  private marks: [number, number][] = [];
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private watchdog: ReturnType<typeof setTimeout> | null = null;
  private drawnAt = 0;

  constructor(file: File | null, options: IntakeOptions, known?: UploadItem) {
    this.file = file;
    this.options = options;
    this.id = known?.id ?? null;
    this.view = signal<UploadView>({
      key: known?.id ?? crypto.getRandomValues(new Uint32Array(2)).join("-"),
      name: known?.name ?? file!.name,
      size: known?.size_bytes ?? file!.size,
      sent: known?.offset_bytes ?? 0,
      state: known ? "needs-file" : "checking",
      speed: null,
      forecast: null,
      error: null,
      expires_at: known?.expires_at ?? null,
    });
  }

  get state(): UploadState {
    return this.view.peek().state;
  }

  /** Ask whether it fits; when it does, it waits for its turn. */
  async check(): Promise<void> {
    this.set({ state: "checking", error: null });
    try {
      const { size } = this.view.peek();
      const forecast = await get<Forecast>(`/api/storage/forecast${query({ size_bytes: size })}`);
      const ok = forecast.fits && forecast.intake.open;
      this.set({ forecast, state: ok ? "queued" : "refused" });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // Whether it fits is also asked when the upload is made; an answer that is away must not stop it.
      this.set({ state: error.status === 403 ? "refused" : "queued", error: error.status === 403 ? error.message : null });
    }
    advance();
  }

  pause(): void {
    this.clear();
    void this.tus?.abort();
    this.set({ state: "paused", speed: null });
    advance();
  }

  resume(): void {
    this.tries = 0;
    this.set({ state: "queued", error: null });
    advance();
  }

  async cancel(): Promise<void> {
    this.clear();
    const { state } = this.view.peek();
    this.set({ state: "paused" }); // what is still on its way to being sent sees it and stays
    await this.tus?.abort();
    forget(this);
    if (this.id && state !== "done") {
      try {
        await remove(`${ENDPOINT}/${this.id}`);
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 404) throw error;
      }
    }
    advance();
  }

  /** The same file again, after a reload. Returns false for another one. */
  take(file: File): boolean {
    const { name, size } = this.view.peek();
    const remembered = this.id ? memory()[this.id] : undefined;
    const same = file.name === name && file.size === size && (!remembered || remembered.modified === file.lastModified);
    if (!same) {
      this.set({ error: t.upload.wrongFile(name) });
      return false;
    }
    this.file = file;
    this.resume();
    return true;
  }

  async send(): Promise<void> {
    const file = this.file!;
    this.set({ state: "sending", error: null });
    this.watch();
    const { Upload } = await import("tus-js-client");
    if (this.state !== "sending") return;
    this.tus ??= new Upload(file, {
      endpoint: ENDPOINT,
      uploadUrl: this.id ? `${ENDPOINT}/${this.id}` : null,
      chunkSize: CHUNK_BYTES,
      retryDelays: null,
      storeFingerprintForResuming: false,
      headers: csrfHeader(),
      metadata: {
        filename: file.name,
        filetype: file.type,
        ...(this.options.clips ? { clips: String(this.options.clips) } : {}),
        ...(this.options.length ? { length: this.options.length } : {}),
      },
      onUploadUrlAvailable: () => this.named(),
      onProgress: (sent) => this.moved(sent),
      onSuccess: () => this.succeeded(),
      onError: (error) => this.stumbled(error),
    });
    this.tus.start();
  }

  private named(): void {
    const url = this.tus?.url;
    if (!url) return;
    this.id = new URL(url, location.href).pathname.split("/").pop() ?? null;
    if (this.id) remember(this.id, this.file!.lastModified);
  }

  private moved(sent: number): void {
    const now = Date.now();
    this.tries = 0;
    this.watch();
    this.marks.push([now, sent]);
    while (this.marks.length > 2 && now - this.marks[0]![0] > SPEED_WINDOW_MS) this.marks.shift();
    const { size } = this.view.peek();
    if (now - this.drawnAt < DRAW_MS && sent < size) return;
    this.drawnAt = now;
    const [at, from] = this.marks[0]!;
    const speed = now > at ? ((sent - from) * 1000) / (now - at) : null;
    this.set({ sent, speed, state: sent >= size ? "verifying" : "sending" });
  }

  private succeeded(): void {
    this.clear();
    if (this.id) forgetFile(this.id);
    this.set({ state: "done", sent: this.view.peek().size, speed: null });
    advance();
    setTimeout(() => forget(this), 4_000);
  }

  private stumbled(error: Error): void {
    this.clear();
    this.marks = [];
    const response = (error as { originalResponse?: { getStatus(): number; getBody(): string } | null }).originalResponse;
    const status = response?.getStatus() ?? 0;
    if ((status === 404 || status === 410) && this.id) {
      // It expired, or the box was restored from a backup: it begins again.
      forgetFile(this.id);
      this.id = null;
      this.tus = null;
      this.set({ state: "queued", sent: 0 });
      advance();
      return;
    }
    if (status >= 400 && status < 500 && ![408, 409, 423, 425, 429].includes(status)) {
      this.set({ state: "failed", speed: null, error: detailOf(response!.getBody()) ?? t.problem.status(status) });
      advance();
      return;
    }
    if (status === 507) {
      this.tus = null;
      this.set({ state: "refused", speed: null, error: detailOf(response!.getBody()) });
      advance();
      return;
    }
    this.again(status === 503 ? detailOf(response!.getBody()) : null);
  }

  /** `why`: what the box said, when it said something. */
  private again(why: string | null): void {
    this.set({ state: "retrying", speed: null, error: why });
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)]!;
    this.tries += 1;
    this.timer = setTimeout(() => void this.send(), wait);
  }

  /** Nothing has moved for a while: the connection is taken for dead, and the upload goes on over a new one. */
  private watch(): void {
    if (this.watchdog) clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      void this.tus?.abort();
      this.clear();
      this.again(null);
    }, STALL_MS);
  }

  /** The network came back: no need to wait for the next try. */
  hurry(): void {
    if (this.state !== "retrying") return;
    this.clear();
    void this.send();
  }

  private clear(): void {
    if (this.timer) clearTimeout(this.timer);
    if (this.watchdog) clearTimeout(this.watchdog);
    this.timer = this.watchdog = null;
  }

  private set(change: Partial<UploadView>): void {
    this.view.value = { ...this.view.peek(), ...change };
  }
}

function detailOf(body: string): string | null {
  try {
    return (JSON.parse(body) as { detail?: string }).detail ?? null;
  } catch {
    return null;
  }
}

/** Files that a person chose or dropped. One that the box has the beginning of goes on there. */
export function add(files: Iterable<File>, options: IntakeOptions): void {
  for (const file of files) {
    const waiting = uploads.peek().find((each) => {
      const { state, name, size } = each.view.peek();
      return state === "needs-file" && name === file.name && size === file.size;
    });
    if (waiting?.take(file)) continue;
    const sending = new Sending(file, options);
    uploads.value = [...uploads.peek(), sending];
    void sending.check();
  }
}

/** What the box has the beginning of, from earlier visits. */
export async function findUnfinished(): Promise<void> {
  let answer: { uploads: UploadItem[] };
  try {
    answer = await get(ENDPOINT);
  } catch (error) {
    if (error instanceof Problem) return;
    throw error;
  }
  const known = new Set(uploads.peek().map((each) => each.view.peek().key));
  const open = answer.uploads.filter((item) => !item.job && item.offset_bytes < item.size_bytes && !known.has(item.id));
  uploads.value = [...uploads.peek(), ...open.map((item) => new Sending(null, { clips: null, length: "" }, item))];
}

function forget(sending: Sending): void {
  uploads.value = uploads.peek().filter((each) => each !== sending);
}

function advance(): void {
  const all = uploads.peek();
  let busy = all.filter((each) => ["sending", "retrying", "verifying"].includes(each.state)).length;
  for (const each of all) {
    if (busy >= AT_ONCE) return;
    if (each.state !== "queued") continue;
    busy += 1;
    void each.send();
  }
}

addEventListener("online", () => {
  for (const each of uploads.peek()) each.hurry();
});
addEventListener("beforeunload", (event) => {
  const busy = uploads.peek().some((each) => ["sending", "retrying", "queued"].includes(each.state));
  if (busy) event.preventDefault();
});

// ---- Which file belongs to which upload, over reloads --------------------------------------------------------------

type Memory = Record<string, { modified: number; at: number }>;

function memory(): Memory {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}") as Memory;
  } catch {
    return {};
  }
}

function remember(id: string, modified: number): void {
  const entries = Object.entries({ ...memory(), [id]: { modified, at: Date.now() } });
  entries.sort(([, a], [, b]) => b.at - a.at);
  localStorage.setItem(REMEMBERED, JSON.stringify(Object.fromEntries(entries.slice(0, 50))));
}

function forgetFile(id: string): void {
  const { [id]: _, ...others } = memory();
  localStorage.setItem(REMEMBERED, JSON.stringify(others));
}
