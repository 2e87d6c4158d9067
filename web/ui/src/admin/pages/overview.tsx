// The first screen: is the box well, what does it do, what needs a person.

import type { ComponentChildren } from "preact";
import { useComputed } from "@preact/signals";
import { ageSeconds, count, duration, perMinute, percent } from "../../core/format.ts";
import { freshness, now } from "../../core/live.ts";
import { STAGES, type Stage } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { Mark, Panel } from "../../parts/basics.tsx";
import { Icon, type IconName } from "../../parts/icons.tsx";
import { Attention } from "../attention.tsx";
import { ControlButton, ControlDialog, holdsOf } from "../control.tsx";
import { doc, host, restRead, tap } from "../data.ts";
import { Gauges } from "../gauges.tsx";
import { EventLine } from "../lines.tsx";
import { href } from "../router.ts";

const LAST = 20;
/** Too frequent to be news, or said by the fact that follows. */
const QUIET = new Set([
  "clip:detected",
  "clip:cropped",
  "job:detecting",
  "job:cropping",
  "job:cutting",
  "worker:online",
  "user:action",
]);

export function Overview() {
  return (
    <>
      <h1 class="sr">{t.ops.pages.overview}</h1>
      <Verdict />
      <div class="tiles">
        {STAGES.map((stage) => (
          <Tile key={stage} stage={stage} />
        ))}
      </div>
      <div class="two">
        <Panel title={t.ops.box} aside={<HostNote />}>
          <Gauges />
        </Panel>
        <Attention />
      </div>
      <LastEvents />
      <ControlDialog />
    </>
  );
}

type VerdictWord = "ok" | "degraded" | "stopped";
const VERDICT_ICONS: Record<VerdictWord, IconName> = { ok: "ok", degraded: "warn", stopped: "bad" };

function Verdict() {
  const dashboard = doc.value?.dashboard;
  const away = freshness.value === "stale";
  const word: VerdictWord = away ? "stopped" : (dashboard?.verdict ?? "degraded");
  const reasons = away ? [t.ops.verdictUnreachable] : (dashboard?.reasons ?? []);
  const since = worstSince();
  const today = dashboard?.today;
  if (!doc.value) return <section class="panel verdict" aria-busy="true" />;
  return (
    <section class={`panel verdict ${word}`} aria-label={t.ops.verdictLabel} data-verdict={word}>
      <Mark tone={word === "ok" ? "ok" : word === "degraded" ? "warn" : "bad"} icon={VERDICT_ICONS[word]}>
        <span class="word">{t.ops.verdict[word]}</span>
      </Mark>
      <p class="why" title={reasons.join("\n")}>
        {reasons.length ? reasons[0] : t.ops.verdictOk}
        {reasons.length > 1 && ` ${t.ops.moreReasons(reasons.length - 1)}`}
        {since && word !== "ok" && <span class="muted"> {t.ops.since(duration(ageSeconds(since, now.value)))}</span>}
      </p>
      <div class="side">
        {today && <span class="muted nowrap">{t.ops.todayFigures(today.jobs, today.clips_ready, today.minutes_in)}</span>}
        <IntakeState />
      </div>
    </section>
  );
}

/** When what is wrong now began: the longest-standing alert or service that is down. */
function worstSince(): string | null {
  const times = [
    ...(doc.value?.alerts?.raised ?? []).filter((alert) => alert.severity === "critical").map((alert) => alert.since),
    ...(doc.value?.services?.services ?? []).filter((each) => each.state === "down").map((each) => each.since),
  ];
  return times.sort()[0] ?? null;
}

function IntakeState() {
  const held = holdsOf("intake");
  return (
    <span class="row">
      <Mark tone={held.length ? "warn" : "ok"} icon={held.length ? "pause" : "check"} pill title={held.map((h) => h.reason).join("\n")}>
        {t.ops.intake} {held.length ? t.ops.intakeClosed : t.ops.intakeOpen}
      </Mark>
      <ControlButton target="intake" />
    </span>
  );
}

function Tile({ stage }: { stage: Stage }) {
  const row = useComputed(() => doc.value?.queue?.stages[stage]).value;
  const workers = useComputed(() => doc.value?.agents_workers?.stages[stage]).value;
  const errors = useComputed(() => {
    const figures = doc.value?.analytics?.hours.at(-1)?.stages[stage];
    return doc.value?.analytics ? (figures?.failed ?? 0) + (figures?.retried ?? 0) : null;
  }).value;
  const held = holdsOf(stage);
  const short = workers && workers.online < workers.min;
  return (
    <section class={`panel tile${held.length ? " held" : ""}`} aria-label={t.stages[stage]} data-stage={stage}>
      <header>
        <h2 class="cut">{t.stages[stage]}</h2>
        {held.length > 0 && (
          <Mark tone="warn" icon="pause" title={held.map((h) => t.ops.stage.held(h.by, h.reason)).join("\n")}>
            <span class="small">{t.modes[held.some((h) => h.mode === "drain") ? "drain" : "pause"]}</span>
          </Mark>
        )}
        <ControlButton target={stage} />
      </header>
      <p class="big">
        <b>{row ? count(row.in_flight) : "–"}</b>
        <span>{t.ops.stage.inFlight}</span>
      </p>
      <dl>
        <Figure name={t.ops.stage.pending}>{row ? count(row.pending) : "–"}</Figure>
        <Figure name={t.ops.stage.oldest}>{duration(row?.oldest_s)}</Figure>
        <Figure name={t.ops.stage.rate}>{row ? perMinute(row.done_per_min) : "–"}</Figure>
        <Figure name={t.ops.stage.errors} bad={Boolean(errors)}>
          {count(errors)}
        </Figure>
        <Figure name={t.ops.stage.workers} bad={Boolean(short)}>
          {workers ? t.ops.stage.of(workers.working, workers.online) : "–"}
        </Figure>
      </dl>
    </section>
  );
}

function Figure(props: { name: string; bad?: boolean; children: ComponentChildren }) {
  return (
    <>
      <dt>{props.name}</dt>
      <dd>{props.bad ? <Mark tone="bad" icon="warn">{props.children}</Mark> : props.children}</dd>
    </>
  );
}

function HostNote() {
  const view = host.value;
  if (!view) return null;
  return (
    <span class="muted small nowrap">
      {view.sample.host}, {t.ops.up(duration(view.sample.uptime_s))}
      {view.sample.cpu?.busy_percent != null && <span class="sr">{percent(view.sample.cpu.busy_percent)}</span>}
    </span>
  );
}

function LastEvents() {
  const events = tap.value.filter((event) => !QUIET.has(event.type)).slice(0, LAST);
  return (
    <Panel
      title={t.ops.lastEvents}
      aside={
        <a class="button plain small" href={href("events")}>
          {t.ops.allEvents}
          <Icon name="right" size={12} />
        </a>
      }
    >
      {events.length ? (
        <ul class="lines last" tabIndex={0} aria-label={t.ops.lastEvents} data-events>
          {events.map((event) => (
            <EventLine key={event.seq} event={event} />
          ))}
        </ul>
      ) : (
        <p class="calm">{restRead.value ? t.eventsPage.empty : t.common.loading}</p>
      )}
    </Panel>
  );
}

