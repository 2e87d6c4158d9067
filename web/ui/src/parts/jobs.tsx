// What is wrong with a job, and what can be done about it.

import { cancelJob, deleteJob, pinJob, retryJob } from "../core/actions.ts";
import { isOpen, type JobView } from "../core/jobs.ts";
import { now } from "../core/live.ts";
import { t } from "../core/strings.ts";
import { Button, Notice } from "./basics.tsx";
import { ask } from "./dialog.tsx";

export function Trouble({ view }: { view: JobView }) {
  const { job, retry } = view;
  if (job.state === "failed") {
    const plain = t.failure(job.error_code);
    return (
      <Notice tone="bad">
        {plain && <strong>{plain}</strong>}
        {job.error && <p>{job.error}</p>}
      </Notice>
    );
  }
  if (job.state === "cancelled" && job.error) return <Notice tone="idle">{job.error}</Notice>;
  if (retry && isOpen(job)) {
    const wait = t.jobs.retryIn((Date.parse(retry.at) - now.value) / 1000);
    return (
      <Notice tone="warn">
        <strong>{t.jobs.retrying(t.stages[retry.stage], retry.attempt, wait)}</strong>
        <p>{retry.error}</p>
      </Notice>
    );
  }
  return null;
}

export function Actions({ view }: { view: JobView }) {
  const { job } = view;
  const id = job.job;
  if (isOpen(job)) {
    return (
      <Button
        kind="small"
        icon="stop"
        onClick={() =>
          ask({
            title: t.jobs.cancelTitle,
            text: t.jobs.cancelText,
            yes: t.jobs.cancelDo,
            no: t.jobs.cancelKeep,
            danger: true,
            does: () => cancelJob(id),
          })
        }
      >
        {t.jobs.cancel}
      </Button>
    );
  }
  if (job.state === "deleted") return null;
  const again = job.state === "failed" || job.state === "cancelled" || job.clips_failed > 0;
  return (
    <>
      {again && (
        <Button kind="small" icon="retry" does={() => retryJob(id)}>
          {t.jobs.retry}
        </Button>
      )}
      <Button
        kind="plain small"
        icon="pin"
        aria-pressed={job.pinned}
        title={t.jobs.pinHint}
        does={() => pinJob(id, !job.pinned)}
      >
        {job.pinned ? t.jobs.unpin : t.jobs.pin}
      </Button>
      <Button
        kind="plain small danger"
        icon="trash"
        aria-label={`${t.jobs.delete} ${job.name}`}
        title={t.jobs.delete}
        onClick={() =>
          ask({
            title: t.jobs.deleteTitle(job.name),
            text: t.jobs.deleteText,
            yes: t.jobs.deleteDo,
            danger: true,
            does: () => deleteJob(id),
          })
        }
      />
    </>
  );
}

