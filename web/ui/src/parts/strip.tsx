// The strip of steps: what is done, what works, what waits, what failed; by shape, word and colour.

import type { Step, StepState } from "../core/jobs.ts";
import { share } from "../core/format.ts";
import { t } from "../core/strings.ts";
import { Icon, type IconName } from "./icons.tsx";

const ICONS: Record<StepState, IconName | null> = { done: "check", now: "work", todo: null, failed: "bad", stopped: null };

export function Strip({ steps, label, bare }: { steps: Step[]; label: string; bare?: boolean }) {
  return (
    <ol class={`strip${bare ? " bare" : ""}`} aria-label={label}>
      {steps.map((step) => {
        const icon = ICONS[step.state];
        return (
          <li key={step.stage} class={step.state} data-stage={step.stage} data-state={step.state}>
            <div class="track">
              <i style={{ width: `${step.state === "done" ? 100 : step.done * 100}%` }} />
            </div>
            <div class="name" aria-hidden="true">
              {icon && <Icon name={icon} size={12} />}
              <span title={t.stages[step.stage]}>{t.stages[step.stage]}</span>
            </div>
            <span class="sr">{inWords(step)}</span>
          </li>
        );
      })}
    </ol>
  );
}

function inWords(step: Step): string {
  const stage = t.stages[step.stage];
  switch (step.state) {
    case "done":
      return t.jobs.stepDone(stage);
    case "now":
      return t.jobs.stepNow(stage, share(step.done));
    case "failed":
      return t.jobs.stepFailed(stage);
    case "stopped":
      return t.jobs.stepStopped(stage);
    case "todo":
      return t.jobs.stepTodo(stage);
  }
}
