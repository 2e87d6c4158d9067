// One job: what happened to it, step by step, its clips, its log.

import { useEffect, useState } from "preact/hooks";
import { get, Problem, query, text } from "../../core/api.ts";
import { ageSeconds, bytes, clock, duration } from "../../core/format.ts";
import { isOpen, jobSteps } from "../../core/jobs.ts";
import type { StoredEvent } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { At, Button, Empty, Mark, Panel } from "../../parts/basics.tsx";
import { Gallery } from "../../parts/gallery.tsx";
import { Actions, Trouble } from "../../parts/jobs.tsx";
import { Icon } from "../../parts/icons.tsx";
import { Strip } from "../../parts/strip.tsx";
import { JOB_TONES } from "../../parts/tones.ts";
import { listen, readJob, store } from "../data.ts";
import { EventLine } from "../lines.tsx";
import { stored, type EventPage } from "../model.ts";
import { href } from "../router.ts";

const PAGE = 500;

export function JobPage({ id }: { id: string }) {
  const [missing, setMissing] = useState<string | null>(null);
  const [, setRead] = useState(false);
  useEffect(() => {
    readJob(id).then(
      () => setRead(true),
      (error: unknown) => {
        if (!(error instanceof Problem)) throw error;
        if (!store.get(id)) setMissing(error.message);
      },
    );
  }, [id]);
  const view = store.get(id)?.value;
  if (!view) return missing ? <Empty icon="film" title={t.jobsPage.notFound}>{missing}</Empty> : <h1 class="sr">{t.common.loading}</h1>;
  const { job } = view;
  return (
    <>
      <div class="title">
        <a class="button plain icon" href={href("jobs")} aria-label={t.common.back} title={t.common.back}>
          <Icon name="left" />
        </a>
        <h1 class="grow breaks">{job.name}</h1>
        <Mark tone={JOB_TONES[job.state]} pill>
          {t.jobStates[job.state]}
        </Mark>
        <Actions view={view} />
      </div>
      <Trouble view={view} />
      {(isOpen(job) || job.state === "completed") && (
        <div class="panel">
          <div class="body pad">
            <Strip steps={jobSteps(view)} label={t.jobs.progress(job.name)} />
          </div>
        </div>
      )}
      <div class="detail">
        <div class="stack">
          <Timeline id={id} />
          <Log id={id} />
        </div>
        <div class="stack">
          <Panel title={t.jobsPage.facts} body>
            <dl class="facts-list">
              <dt>{t.jobsPage.id}</dt>
              <dd class="mono">{job.job}</dd>
              <dt>{t.jobsPage.columns.owner}</dt>
              <dd>{job.owner}</dd>
              <dt>{t.jobsPage.columns.added}</dt>
              <dd>
                <At at={job.created_at} />
              </dd>
              {job.ended_at && (
                <>
                  <dt>{t.jobsPage.columns.took}</dt>
                  <dd>{duration(ageSeconds(job.created_at, Date.parse(job.ended_at)))}</dd>
                </>
              )}
              {job.rough && (
                <>
                  <dt>{t.jobsPage.transcript}</dt>
                  <dd>{t.jobs.roughHint}</dd>
                </>
              )}
              {job.duration_s != null && (
                <>
                  <dt>{t.jobsPage.length}</dt>
                  <dd>
                    {clock(job.duration_s)}
                    {job.size_bytes != null && `, ${bytes(job.size_bytes)}`}
                  </dd>
                </>
              )}
            </dl>
          </Panel>
          {view.clips.length > 0 && (
            <Panel title={t.jobsPage.clips} body>
              <Gallery view={view} />
            </Panel>
          )}
        </div>
      </div>
    </>
  );
}

function Timeline({ id }: { id: string }) {
  const [events, setEvents] = useState<readonly StoredEvent[] | null>(null);
  useEffect(() => {
    const add = (more: readonly StoredEvent[]) =>
      setEvents((known) => {
        const all = new Map((known ?? []).map((event) => [event.seq, event]));
        for (const event of more) all.set(event.seq, event);
        return [...all.values()].sort((a, b) => b.seq - a.seq);
      });
    const stop = listen((event) => event.job === id && add([event]));
    const read = async () => {
      let after: number | null = null;
      do {
        const page: EventPage = await get<EventPage>(`/api/jobs/${id}/events${query({ after, limit: PAGE })}`);
        add(page.events.map(stored));
        after = page.next;
      } while (after != null);
    };
    read().catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
    });
    return stop;
  }, [id]);
  return (
    <Panel title={t.jobsPage.timeline} aside={<span class="muted small">{events?.length}</span>}>
      <ul class="lines last tall" tabIndex={0} aria-label={t.jobsPage.timeline}>
        {events?.map((event) => (
          <EventLine key={event.seq} event={event} about={false} />
        ))}
      </ul>
    </Panel>
  );
}

function Log({ id }: { id: string }) {
  const [content, setContent] = useState<string | null>(null);
  const read = async () => {
    try {
      setContent(await text(`/api/jobs/${id}/log`));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      setContent("");
    }
  };
  return (
    <Panel
      title={t.jobsPage.log}
      aside={
        <Button kind="small" does={read}>
          {content == null ? t.jobsPage.showLog : t.common.refresh}
        </Button>
      }
    >
      {content != null && (
        <pre class="log" tabIndex={0} aria-label={t.jobsPage.log}>
          {content || t.jobsPage.logEmpty}
        </pre>
      )}
    </Panel>
  );
}
