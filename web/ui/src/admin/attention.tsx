// What needs a person, the worst first, each with one thing to do about it.

import type { ComponentChildren } from "preact";
import { post } from "../core/api.ts";
import { duration, shortId } from "../core/format.ts";
import { t } from "../core/strings.ts";
import { Button, Mark, Panel, type Tone } from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { setControl, targetName } from "./control.tsx";
import { deadCount, doc, holds, host, restRead, said } from "./data.ts";
import type { AlertList } from "./model.ts";
import { href } from "./router.ts";

interface Item {
  key: string;
  tone: Tone;
  text: string;
  action: ComponentChildren;
}

const MOST = 30;
const RANK: Record<Tone, number> = { bad: 0, warn: 1, work: 2, idle: 3, ok: 4 };

export function Attention() {
  const known = doc.value != null && restRead.value;
  const items = known ? gather() : [];
  return (
    <Panel title={t.ops.attention} aside={items.length > 0 && <span class="muted small">{items.length}</span>}>
      {items.length ? (
        <ul class="attention" tabIndex={0} aria-label={t.ops.attention} data-needs={items.length}>
          {items.map((item) => (
            <li key={item.key} data-attention={item.key}>
              <Mark tone={item.tone}>
                <span class="sr">{t.ops.tones[item.tone]}</span>
              </Mark>
              <span class="grow">{item.text}</span>
              {item.action}
            </li>
          ))}
        </ul>
      ) : (
        <p class="calm" data-needs={known ? 0 : undefined}>
          {known ? (
            <>
              <Icon name="ok" />
              {t.ops.attentionNone}
            </>
          ) : (
            t.common.loading
          )}
        </p>
      )}
    </Panel>
  );
}

function gather(): Item[] {
  const found: Item[] = [];
  const current = doc.value;
  const quiet = new Set(said.value.seen.map((each) => each.alert));
  for (const alert of host.value?.alerts ?? []) if (alert.acknowledged || alert.muted_by) quiet.add(alert.alert);
  for (const alert of current?.alerts?.raised ?? []) {
    if (alert.severity === "info" || quiet.has(alert.alert)) continue;
    found.push({
      key: `alert-${alert.alert}`,
      tone: alert.severity === "critical" ? "bad" : "warn",
      text: alert.message,
      action: <Button kind="small" does={() => acknowledge(alert.alert)}>{t.ops.actions.acknowledge}</Button>,
    });
  }
  for (const service of current?.services?.services ?? []) {
    if (service.state !== "down") continue;
    found.push({
      key: `service-${service.service}`,
      tone: "bad",
      text: `${t.ops.attentionItems.serviceDown(service.service)}${service.reason ? `: ${service.reason}` : ""}`,
      action: <Look page="workers" />,
    });
  }
  for (const worker of current?.agents_workers?.workers ?? []) {
    if (worker.state !== "stuck") continue;
    const name = `${t.stages[worker.stage]} ${shortId(worker.worker)}`;
    found.push({
      key: `worker-${worker.worker}`,
      tone: "bad",
      text: t.ops.attentionItems.stuck(name, duration(worker.progress_age_s)),
      action: <Look page="workers" />,
    });
  }
  for (const [stage, row] of Object.entries(current?.agents_workers?.stages ?? {})) {
    if (row.online >= row.min) continue;
    const name = (t.stages as Record<string, string>)[stage] ?? stage;
    found.push({
      key: `minimum-${stage}`,
      tone: "warn",
      text: t.ops.attentionItems.below(row.online, row.min, name),
      action: <Look page="workers" />,
    });
  }
  if (deadCount.value) {
    found.push({
      key: "dead-letters",
      tone: "warn",
      text: t.ops.attentionItems.deadLetters(deadCount.value),
      action: <Look page="dead-letters" />,
    });
  }
  for (const hold of holds.value) {
    found.push({
      key: `hold-${hold.target}-${hold.holder}`,
      tone: "idle",
      text: t.ops.attentionItems.held(targetName(hold.target), t.modes[hold.mode].toLowerCase(), hold.by, hold.reason),
      action:
        hold.holder === "operator" ? (
          <Button kind="small" does={() => setControl(hold.target, "run", "")}>
            {t.ops.actions.resume}
          </Button>
        ) : (
          <Look page={hold.holder === "storage" ? "storage" : "alerts"} />
        ),
    });
  }
  return found.sort((a, b) => RANK[a.tone] - RANK[b.tone]).slice(0, MOST);
}

function Look({ page }: { page: string }) {
  return (
    <a class="button small" href={href(page)}>
      {t.ops.actions.look}
    </a>
  );
}

export async function acknowledge(alert: string): Promise<void> {
  said.value = await post<AlertList>(`/api/admin/alerts/${encodeURIComponent(alert)}/ack`, {});
}
