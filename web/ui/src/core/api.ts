// HTTP to the box: JSON in and out, the CSRF token on what changes something, problems (RFC 9457) as typed errors.

import { t } from "./strings.ts";

export interface ProblemDocument {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  code?: string;
  [field: string]: unknown;
}

/** The box refused, or could not be reached (`status` 0). `message` is fit for people. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly document: ProblemDocument;

  constructor(status: number, document: ProblemDocument) {
    super(document.detail || document.title || (status ? t.problem.status(status) : t.problem.unreachable));
    this.status = status;
    this.code = document.code ?? "";
    this.document = document;
  }
}

let csrf = "";
let onLoggedOut: (() => void) | null = null;

export function useCsrf(token: string): void {
  csrf = token;
}

/** Called when the box says that nobody is logged in (any more). */
export function whenLoggedOut(run: () => void): void {
  onLoggedOut = run;
}

/** Header for requests that change something and that this module does not send itself (tus). */
export function csrfHeader(): Record<string, string> {
  return csrf ? { "X-CSRF-Token": csrf } : {};
}

interface Options {
  body?: unknown;
  signal?: AbortSignal;
  timeout_ms?: number;
  /** A 401 is an answer here, not the end of the session. */
  anonymous?: boolean;
}

const TIMEOUT_MS = 15_000;

async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") Object.assign(headers, csrfHeader());
  const timeout = AbortSignal.timeout(options.timeout_ms ?? TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
      credentials: "same-origin",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem(0, {});
  }
  if (response.ok || response.status === 304) return response;
  const document = await problemOf(response);
  if (response.status === 401 && !options.anonymous) onLoggedOut?.();
  throw new Problem(response.status, document);
}

async function problemOf(response: Response): Promise<ProblemDocument> {
  if (!(response.headers.get("content-type") ?? "").includes("json")) return {};
  try {
    return (await response.json()) as ProblemDocument;
  } catch {
    return {};
  }
}

export async function get<T>(path: string, options?: Options): Promise<T> {
  return (await send("GET", path, options)).json() as Promise<T>;
}

export async function text(path: string, options?: Options): Promise<string> {
  return (await send("GET", path, options)).text();
}

async function change<T>(method: string, path: string, body?: unknown, options?: Options): Promise<T> {
  const response = await send(method, path, { ...options, body });
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  return (isJson ? await response.json() : undefined) as T;
}

export const post = <T = void>(path: string, body?: unknown, options?: Options) =>
  change<T>("POST", path, body, options);
export const patch = <T = void>(path: string, body: unknown) => change<T>("PATCH", path, body);
export const remove = <T = void>(path: string) => change<T>("DELETE", path);

/** A document that is asked for again and again: unchanged ones (ETag) cost one small answer. */
export class Cached<T> {
  private etag = "";
  value: T | null = null;

  async refresh(path: string): Promise<T> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (this.etag && this.value) headers["If-None-Match"] = this.etag;
    let response: Response;
    try {
      response = await fetch(path, { headers, credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch {
      throw new Problem(0, {});
    }
    if (response.status === 304 && this.value) return this.value;
    if (!response.ok) {
      if (response.status === 401) onLoggedOut?.();
      throw new Problem(response.status, await problemOf(response));
    }
    this.etag = response.headers.get("etag") ?? "";
    this.value = (await response.json()) as T;
    return this.value;
  }
}

export function query(values: Record<string, string | number | null | undefined>): string {
  const pairs = Object.entries(values).filter(([, value]) => value != null && value !== "");
  return pairs.length ? `?${new URLSearchParams(pairs.map(([k, v]) => [k, String(v)])).toString()}` : "";
}
