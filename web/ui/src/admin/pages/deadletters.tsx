// What was given up, by error.

import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import { get, post, Problem } from "../../core/api.ts";
import { soon } from "../../core/soon.ts";
import { t } from "../../core/strings.ts";
import { Ago, Button, Empty, Mark, Notice, say } from "../../parts/basics.tsx";
import { ask } from "../../parts/dialog.tsx";
import { deadCount, listen } from "../data.ts";
import type { DeadLetterGroup } from "../model.ts";
import { href } from "../router.ts";

interface Replayed {
  jobs: string[];
  refused: { job: string; reason: string }[];
  left: number;
}

const groups = signal<readonly DeadLetterGroup[] | null>(null);
const failure = signal<string | null>(null);
const SOON_MS = 500;

async function read(): Promise<void> {
  try {
    const answer = await get<{ groups: DeadLetterGroup[] }>("/api/admin/dead-letters");
    groups.value = answer.groups;
    deadCount.value = answer.groups.reduce((sum, group) => sum + group.count, 0);
    failure.value = null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failure.value = error.message;
  }
}

async function replay(ids: number[] | "all"): Promise<void> {
  const answer = await post<Replayed>("/api/admin/dead-letters/replay", { ids });
  for (const { reason } of answer.refused) say(reason, "bad");
  if (answer.jobs.length) say(t.deadLetters.replayed(answer.jobs.length, answer.left));
  await read();
}

function askReplay(ids: number[] | "all", n: number): void {
  ask({
    title: t.deadLetters.confirmTitle(n),
    text: t.deadLetters.confirmText,
    yes: t.deadLetters.replay(n),
    does: () => replay(ids),
  });
}

export function DeadLettersPage() {
  useEffect(() => {
    void read();
    const again = soon(read, SOON_MS);
    return listen((event) => {
      if (["job:failed", "clip:failed", "job:retried", "job:deleted"].includes(event.type)) again();
    });
  }, []);
  const all = groups.value;
  const total = (all ?? []).reduce((sum, group) => sum + group.count, 0);
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.deadLetters}</h1>
        {total > 0 && (
          <Button icon="retry" onClick={() => askReplay("all", total)}>
            {t.deadLetters.replayAll}
          </Button>
        )}
      </div>
      <p class="muted">{t.deadLetters.lead}</p>
      {failure.value && <Notice tone="bad">{failure.value}</Notice>}
      {all?.map((group) => <Group key={`${group.stage}${group.code}${group.error}`} group={group} />)}
      {all && !all.length && (
        <div class="panel">
          <Empty icon="ok" title={t.deadLetters.empty} />
        </div>
      )}
    </>
  );
}

function Group({ group }: { group: DeadLetterGroup }) {
  const plain = t.failure(group.code);
  return (
    <section class="panel" data-group={group.code}>
      <header>
        <div class="grow">
          <Mark tone="bad">{plain ?? group.code}</Mark>
          <p class="muted small breaks">{group.error}</p>
        </div>
        <span class="muted small nowrap">{t.deadLetters.group(group.count, t.stages[group.stage])}</span>
        <Button kind="small" icon="retry" onClick={() => askReplay(group.letters.map((letter) => letter.id), group.letters.length)}>
          {t.deadLetters.replay(group.letters.length)}
        </Button>
      </header>
      <table class="table">
        <tbody>
          {group.letters.map((letter) => (
            <tr key={letter.id}>
              <td class="wide">
                <a class="breaks" href={href("jobs", letter.job)}>
                  {letter.name}
                  {letter.clip != null && ` #${letter.clip}`}
                </a>
              </td>
              <td class="nowrap muted">{t.deadLetters.attempts(letter.attempts)}</td>
              <td class="nowrap muted">
                <Ago at={letter.time} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
