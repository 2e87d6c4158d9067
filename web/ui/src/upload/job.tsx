// One video: what happens to it, in six steps, and what can be done about it.

import { useEffect, useState } from "preact/hooks";
import type { Signal } from "@preact/signals";
import { ageSeconds, clock, shortId } from "../core/format.ts";
import { isOpen, jobSteps, type JobView } from "../core/jobs.ts";
import { t } from "../core/strings.ts";
import { Ago, Button, Mark } from "../parts/basics.tsx";
import { may } from "../parts/frame.tsx";
import { Gallery } from "../parts/gallery.tsx";
import { Actions, Trouble } from "../parts/jobs.tsx";
import { Strip } from "../parts/strip.tsx";
import { JOB_TONES } from "../parts/tones.ts";
import { look, lookAway } from "./data.ts";

export function JobCard({ view: held, open: opened }: { view: Signal<JobView>; open: boolean }) {
  const view = held.value;
  const { job } = view;
  const working = isOpen(job);
  const hasClips = (job.clips_planned ?? 0) > 0;
  const [chosen, setChosen] = useState<boolean | null>(null);
  const shown = (chosen ?? (opened || working)) && hasClips;
  useEffect(() => {
    if (!shown) return undefined;
    void look(job.job);
    return () => lookAway(job.job);
  }, [shown, job.job]);
  return (
    <article class="panel job" aria-label={t.jobs.thisVideo(job.name)} data-job={job.job} data-state={job.state}>
      <div class="head">
        <div class="grow">
          <h3 class="breaks">{job.name}</h3>
          <p class="facts">
            {job.duration_s != null && <span>{t.jobs.length(clock(job.duration_s))}</span>}
            <span>
              {t.jobs.addedWord} <Ago at={job.created_at} />
            </span>
            {job.ended_at && job.state === "completed" && (
              <span>{t.jobs.took(ageSeconds(job.created_at, Date.parse(job.ended_at)) ?? 0)}</span>
            )}
            <span class="mono" title={job.job}>
              {shortId(job.job)}
            </span>
          </p>
        </div>
        {job.rough && job.clips_ready > 0 && (
          <Mark tone="warn" pill title={t.jobs.roughHint}>
            {t.jobs.rough}
          </Mark>
        )}
        {job.pinned && (
          <Mark tone="work" icon="pin" pill title={t.jobs.pinHint}>
            {t.jobs.pinned}
          </Mark>
        )}
        <Mark tone={JOB_TONES[job.state]} pill>
          {t.jobStates[job.state]}
        </Mark>
      </div>
      {working && <Strip steps={jobSteps(view)} label={t.jobs.progress(job.name)} />}
      <Trouble view={view} />
      {shown && <Gallery view={view} />}
      <div class="tail">
        <span class="grow">{summary(view)}</span>
        {hasClips && !working && (
          <Button kind="plain small" icon={shown ? "down" : "film"} aria-expanded={shown} onClick={() => setChosen(!shown)}>
            {shown ? t.jobs.hideClips : t.jobs.showClips}
          </Button>
        )}
        {job.clips_ready > 0 && (
          <a class="button small" href={`/api/jobs/${job.job}/clips.zip`} download>
            {t.jobs.downloadAll}
          </a>
        )}
        {may("operator") && <Actions view={view} />}
      </div>
    </article>
  );
}

function summary(view: JobView): string {
  const { job } = view;
  const parts: string[] = [];
  if (job.clips_planned != null) parts.push(t.jobs.clips(job.clips_ready, job.clips_planned));
  if (job.clips_failed) parts.push(t.jobs.clipsFailed(job.clips_failed));
  const eta = etaOf(view);
  if (eta != null) parts.push(t.jobs.eta(eta));
  return parts.join(" · ");
}

/** Seconds that the steps at work still need: the longest of them. */
function etaOf(view: JobView): number | null {
  if (!isOpen(view.job)) return null;
  const etas = Object.values(view.progress).map((each) => each.eta_s);
  const known = etas.filter((eta): eta is number => eta != null && eta > 0);
  return known.length ? Math.max(...known) : null;
}
