// Workers by stage, what each does, who is gone; and the supervised processes.

import { bytes, duration, share, shortId } from "../../core/format.ts";
import { STAGES } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { Ago, Bar, Empty, Mark, Panel, type Tone } from "../../parts/basics.tsx";
import { ControlButton, ControlDialog, holdsOf } from "../control.tsx";
import { doc, store } from "../data.ts";
import type { Worker } from "../model.ts";
import { href } from "../router.ts";

const TONES: Record<Worker["state"], Tone> = { idle: "idle", working: "work", stuck: "bad" };

export function WorkersPage() {
  const found = doc.value?.agents_workers;
  const c = t.workersPage.columns;
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.workers}</h1>
      </div>
      <div class="tiles">
        {STAGES.map((stage) => {
          const row = found?.stages[stage];
          const held = holdsOf(stage);
          return (
            <section key={stage} class={`panel tile${held.length ? " held" : ""}`} aria-label={t.stages[stage]}>
              <header>
                <h2 class="cut">{t.stages[stage]}</h2>
                <ControlButton target={stage} />
              </header>
              <p class="big">
                <b>{row?.online ?? "–"}</b>
                <span>{row && t.ops.stage.min(row.min)}</span>
              </p>
              {held.map((hold) => (
                <p key={hold.holder} class="small muted breaks">
                  {t.modes[hold.mode]}: {t.ops.stage.held(hold.by, hold.reason)}
                </p>
              ))}
            </section>
          );
        })}
      </div>
      <div class="panel scroll">
        {found && !found.workers.length ? (
          <Empty icon="workers" title={t.workersPage.empty} />
        ) : (
          <table class="table cards">
            <thead>
              <tr>
                <th>{c.stage}</th>
                <th>{c.worker}</th>
                <th>{c.state}</th>
                <th>{c.work}</th>
                <th>{c.progress}</th>
                <th class="num">{c.memory}</th>
                <th>{c.since}</th>
              </tr>
            </thead>
            <tbody>
              {found?.workers.map((worker) => (
                <Row key={worker.worker} worker={worker} />
              ))}
            </tbody>
          </table>
        )}
      </div>
      <div class="detail">
        <Services />
        {found && found.offline.length > 0 && (
          <Panel title={t.workersPage.offline}>
            <table class="table">
              <tbody>
                {found.offline.map((gone) => (
                  <tr key={gone.worker}>
                    <td class="nowrap">{t.stages[gone.stage]}</td>
                    <td class="mono nowrap">{shortId(gone.worker)}</td>
                    <td class="wide breaks">{gone.reason}</td>
                    <td class="nowrap muted">
                      <Ago at={gone.since} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Panel>
        )}
      </div>
      <ControlDialog />
    </>
  );
}

function Row({ worker }: { worker: Worker }) {
  const c = t.workersPage.columns;
  const name = worker.job ? (store.get(worker.job)?.value.job.name ?? shortId(worker.job)) : null;
  return (
    <tr data-worker={worker.worker}>
      <td class="nowrap">{t.stages[worker.stage]}</td>
      <td class="mono nowrap" data-label={c.worker} title={worker.worker}>
        {shortId(worker.worker)} <span class="muted">({worker.pid})</span>
      </td>
      <td data-label={c.state}>
        <Mark tone={TONES[worker.state]}>{t.workersPage.states[worker.state]}</Mark>
      </td>
      <td class="wide" data-label={c.work}>
        {worker.job ? (
          <a class="breaks" href={href("jobs", worker.job)}>
            {name}
            {worker.clip != null && ` #${worker.clip}`}
          </a>
        ) : (
          <span class="muted">–</span>
        )}
      </td>
      <td class="steps" data-label={c.progress}>
        {worker.progress != null ? (
          <>
            <Bar share={worker.progress} label={c.progress} text={share(worker.progress)} tone={worker.state === "stuck" ? "bad" : undefined} />
            <span class="small muted">
              {share(worker.progress)}
              {worker.state === "stuck" && `, ${duration(worker.progress_age_s)}`}
            </span>
          </>
        ) : (
          <span class="muted">–</span>
        )}
      </td>
      <td class="num nowrap" data-label={c.memory}>
        {bytes(worker.rss_bytes)}
      </td>
      <td class="nowrap muted" data-label={c.since}>
        <Ago at={worker.started_at} />
      </td>
    </tr>
  );
}

function Services() {
  const found = doc.value?.services;
  return (
    <Panel title={t.workersPage.services}>
      <table class="table">
        <tbody>
          {found?.services.map((service) => (
            <tr key={service.service} data-service={service.service}>
              <td>
                <Mark tone={service.state === "up" ? "ok" : "bad"}>{service.state === "up" ? t.workersPage.up : t.workersPage.down}</Mark>
              </td>
              <td class="wide breaks">
                {service.service}
                {service.reason && <span class="muted"> {service.reason}</span>}
              </td>
              <td class="nowrap muted">{service.restarts > 0 && `${t.workersPage.restarts} ${service.restarts}`}</td>
              <td class="nowrap muted">
                <Ago at={service.since} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}
