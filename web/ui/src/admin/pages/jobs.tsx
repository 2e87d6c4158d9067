// All jobs, by state.

import { useEffect, useState } from "preact/hooks";
import { get, query } from "../../core/api.ts";
import { ageSeconds, duration } from "../../core/format.ts";
import { jobSteps } from "../../core/jobs.ts";
import type { Job, JobState } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { Ago, Button, complain, Empty, Mark } from "../../parts/basics.tsx";
import { Strip } from "../../parts/strip.tsx";
import { JOB_TONES } from "../../parts/tones.ts";
import { store } from "../data.ts";
import { href } from "../router.ts";

const STATES: (JobState | "")[] = ["", "queued", "running", "clipping", "completed", "failed", "cancelled"];
const PAGE = 50;

export function JobsPage() {
  const [state, setState] = useState<JobState | "">("");
  const [next, setNext] = useState<string | null>(null);
  const read = async (cursor: string | null) => {
    const answer = await get<{ jobs: Job[]; next: string | null }>(`/api/jobs${query({ state, limit: PAGE, cursor })}`);
    store.list(answer.jobs, false);
    setNext(answer.next);
  };
  useEffect(() => void read(null).catch(complain), [state]);
  const shown = store.order.value.filter((id) => !state || store.get(id)!.value.job.state === state);
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.jobs}</h1>
        <div class="filters">
          <label class="sr" for="job-state">
            {t.jobsPage.filter}
          </label>
          <select
            id="job-state"
            class="input"
            value={state}
            onChange={(event) => setState(event.currentTarget.value as JobState | "")}
          >
            {STATES.map((each) => (
              <option key={each} value={each}>
                {each ? t.jobStates[each] : t.jobsPage.all}
              </option>
            ))}
          </select>
        </div>
      </div>
      <div class="panel scroll">
        {shown.length ? (
          <table class="table cards">
            <thead>
              <tr>
                <th>{t.jobsPage.columns.name}</th>
                <th>{t.jobsPage.columns.state}</th>
                <th>{t.jobsPage.columns.steps}</th>
                <th class="num">{t.jobsPage.columns.clips}</th>
                <th>{t.jobsPage.columns.owner}</th>
                <th>{t.jobsPage.columns.added}</th>
                <th class="num">{t.jobsPage.columns.took}</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((id) => (
                <Row key={id} id={id} />
              ))}
            </tbody>
          </table>
        ) : (
          <Empty icon="film" title={t.jobsPage.empty} />
        )}
      </div>
      {next && (
        <p>
          <Button does={() => read(next)}>{t.common.more}</Button>
        </p>
      )}
    </>
  );
}

function Row({ id }: { id: string }) {
  const view = store.get(id)!.value;
  const { job } = view;
  const c = t.jobsPage.columns;
  return (
    <tr data-job={id} data-state={job.state}>
      <td class="wide">
        <a class="breaks" href={href("jobs", id)}>
          {job.name}
        </a>
      </td>
      <td data-label={c.state}>
        <Mark tone={JOB_TONES[job.state]}>{t.jobStates[job.state]}</Mark>
      </td>
      <td data-label={c.steps} class="steps">
        <Strip bare steps={jobSteps(view)} label={t.jobs.progress(job.name)} />
      </td>
      <td class="num nowrap" data-label={c.clips}>
        {job.clips_planned == null ? "–" : t.common.of(job.clips_ready, job.clips_planned)}
      </td>
      <td data-label={c.owner} class="nowrap">
        {job.owner}
      </td>
      <td data-label={c.added} class="nowrap">
        <Ago at={job.created_at} />
      </td>
      <td class="num nowrap" data-label={c.took}>
        {job.ended_at ? duration(ageSeconds(job.created_at, Date.parse(job.ended_at))) : "–"}
      </td>
    </tr>
  );
}
