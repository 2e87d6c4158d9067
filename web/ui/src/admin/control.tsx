// Pause, drain and resume: asked with a reason, kept in the box's ledger.

import { useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { post } from "../core/api.ts";
import { freshness } from "../core/live.ts";
import type { Mode } from "../core/model.ts";
import { t } from "../core/strings.ts";
import { Button, Field } from "../parts/basics.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { holds, readHolds } from "./data.ts";
import type { Hold } from "./model.ts";

type Target = Hold["target"];

const asked = signal<Target | null>(null);

export function holdsOf(target: Target): Hold[] {
  return holds.value.filter((hold) => hold.target === target);
}

export function targetName(target: Target): string {
  return target === "intake" ? t.control.intake : t.stages[target];
}

export async function setControl(target: Target, mode: Mode, reason: string, for_s?: number): Promise<void> {
  await post("/api/admin/controls", { target, mode, reason, ...(for_s ? { for_s } : {}) });
  if (freshness.value !== "live") await readHolds();
}

export function ControlButton({ target, kind = "plain small" }: { target: Target; kind?: string }) {
  const held = holdsOf(target);
  const name = targetName(target);
  const own = held.some((hold) => hold.holder === "operator");
  if (own) {
    return (
      <Button
        kind={kind}
        icon="play"
        aria-label={t.ops.stage.run(name)}
        title={t.ops.stage.run(name)}
        does={() => setControl(target, "run", "")}
      />
    );
  }
  return (
    <Button
      kind={kind}
      icon="pause"
      aria-label={t.ops.stage.pause(name)}
      title={t.ops.stage.pause(name)}
      onClick={() => (asked.value = target)}
    />
  );
}

export function ControlDialog() {
  const target = asked.value;
  if (!target) return null;
  return <Form key={target} target={target} />;
}

function Form({ target }: { target: Target }) {
  const [reason, setReason] = useState("");
  const [until, setUntil] = useState("");
  const close = () => (asked.value = null);
  const set = (mode: Mode) => async () => {
    await setControl(target, mode, reason.trim(), until ? Number(until) : undefined);
    close();
  };
  return (
    <Dialog title={t.control.title(targetName(target))} onClose={close}>
      <p>{t.control.text}</p>
      <Field label={t.control.reason}>
        {(id) => (
          <input
            id={id}
            class="input"
            maxLength={200}
            placeholder={t.control.reasonPlaceholder}
            value={reason}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        )}
      </Field>
      <Field label={t.control.until}>
        {(id) => (
          <select id={id} class="input" value={until} onChange={(event) => setUntil(event.currentTarget.value)}>
            {Object.entries(t.control.untils).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <footer>
        <Button onClick={close}>{t.common.cancel}</Button>
        {target !== "intake" && (
          <Button does={set("drain")} title={t.control.drainHint}>
            {t.control.drain}
          </Button>
        )}
        <Button kind="main" does={set("pause")}>
          {t.control.pause}
        </Button>
      </footer>
    </Dialog>
  );
}
