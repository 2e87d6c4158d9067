// Small things that every page is made of.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { Problem } from "../core/api.ts";
import { ago, fullInstant, instant } from "../core/format.ts";
import { ageS, bus, freshness, now } from "../core/live.ts";
import { t } from "../core/strings.ts";
import { Icon, type IconName } from "./icons.tsx";

export type Tone = "ok" | "warn" | "bad" | "work" | "idle";

const MARKS: Record<Tone, IconName> = { ok: "ok", warn: "warn", bad: "bad", work: "work", idle: "wait" };

/** A state: its shape, its word and its colour. */
export function Mark(props: { tone: Tone; children: ComponentChildren; pill?: boolean; icon?: IconName; title?: string }) {
  return (
    <span class={`mark ${props.tone}${props.pill ? " pill" : ""}`} title={props.title}>
      <Icon name={props.icon ?? MARKS[props.tone]} size={14} />
      {props.children}
    </span>
  );
}

type ButtonProps = Omit<JSX.IntrinsicElements["button"], "icon"> & {
  icon?: IconName;
  kind?: string;
  /** Runs until its promise is settled; a failure becomes a toast. */
  does?: () => unknown;
};

export function Button({ icon, kind = "", does, children, ...rest }: ButtonProps) {
  const [busy, setBusy] = useState(false);
  const alive = useRef(true);
  useEffect(() => () => void (alive.current = false), []);
  const run = async () => {
    setBusy(true);
    try {
      await does?.();
    } catch (error) {
      complain(error);
    } finally {
      if (alive.current) setBusy(false);
    }
  };
  return (
    <button
      type="button"
      class={`button ${kind}${children ? "" : " icon"}`}
      aria-busy={busy || undefined}
      disabled={busy}
      onClick={does ? run : undefined}
      {...rest}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

export function Field(props: { label: string; hint?: string; error?: string | null; children: (id: string, aria: object) => JSX.Element }) {
  const id = useId();
  const note = props.error || props.hint ? `${id}-note` : undefined;
  return (
    <div class="field">
      <label class="label" for={id}>
        {props.label}
      </label>
      {props.children(id, { "aria-describedby": note, "aria-invalid": props.error ? "true" : undefined })}
      {props.error ? (
        <span class="error" id={note} role="alert">
          {props.error}
        </span>
      ) : (
        props.hint && (
          <span class="hint" id={note}>
            {props.hint}
          </span>
        )
      )}
    </div>
  );
}

export function Bar(props: { share: number; tone?: Tone; label: string; text?: string }) {
  const percent = Math.min(100, Math.max(0, props.share * 100));
  return (
    <div
      class={`bar ${props.tone ?? ""}`}
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.floor(percent)}
      aria-valuetext={props.text}
    >
      <i style={{ width: `${percent}%` }} />
    </div>
  );
}

/** A time as its age; the whole time as a tooltip. */
export function Ago({ at }: { at: string | null | undefined }) {
  return (
    <time dateTime={at ?? undefined} title={fullInstant(at)}>
      {ago(at, now.value)}
    </time>
  );
}

export function At({ at, seconds }: { at: string | null | undefined; seconds?: boolean }) {
  return (
    <time dateTime={at ?? undefined} title={fullInstant(at)}>
      {instant(at, now.value, seconds)}
    </time>
  );
}

/** Live, Polling or Stale, with the age of what is shown. */
export function FreshnessBadge() {
  const state = freshness.value;
  const hints = {
    live: t.badge.liveHint,
    polling: t.badge.pollingHint,
    stale: bus.value === "down" ? t.badge.busHint : t.badge.staleHint,
    connecting: t.badge.connectingHint,
  };
  const age = ageS.value;
  const icons = { live: "dot", polling: "wait", stale: "warn", connecting: "wait" } as const;
  return (
    <span class={`badge ${state}`} title={hints[state]} data-freshness={state}>
      <Icon name={icons[state]} size={12} />
      <span role="status">{t.badge[state]}</span>
      {state !== "live" && age >= 1 && <span class="age">{t.badge.age(age)}</span>}
    </span>
  );
}

export function Empty(props: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={props.icon} size={28} />
      <strong>{props.title}</strong>
      {props.children}
    </div>
  );
}

export function Notice(props: { tone: Tone; children: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class={`notice ${props.tone}`} role={props.tone === "bad" ? "alert" : undefined}>
      <Icon name={MARKS[props.tone]} />
      <div class="grow">{props.children}</div>
      {props.action}
    </div>
  );
}

export function Panel(props: { title: string; children: ComponentChildren; aside?: ComponentChildren; body?: boolean; class?: string }) {
  const id = useId();
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id} class="grow">
          {props.title}
        </h2>
        {props.aside}
      </header>
      {props.body ? <div class="body">{props.children}</div> : props.children}
    </section>
  );
}

// ---- Toasts --------------------------------------------------------------------------------------------------------

interface Toast {
  id: number;
  tone: "ok" | "bad";
  text: string;
}

const SHOWN_MS = 8_000;
const MOST = 4;
const toasts = signal<readonly Toast[]>([]);
let nextToast = 1;

export function say(text: string, tone: "ok" | "bad" = "ok"): void {
  const id = nextToast++;
  toasts.value = [...toasts.value, { id, tone, text }].slice(-MOST);
  setTimeout(() => dismiss(id), SHOWN_MS);
}

/** Tell a person what went wrong. Mistakes of the page itself go on to the console, where tests see them. */
export function complain(error: unknown): void {
  if (error instanceof Problem) {
    if (error.status !== 401) say(error.message, "bad");
    return;
  }
  if (error instanceof DOMException && error.name === "AbortError") return;
  throw error;
}

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={`toast ${toast.tone}`}>
          <Mark tone={toast.tone}>{""}</Mark>
          <p class="grow">{toast.text}</p>
          <Button kind="plain small" icon="close" aria-label={t.common.close} onClick={() => dismiss(toast.id)} />
        </div>
      ))}
    </div>
  );
}
