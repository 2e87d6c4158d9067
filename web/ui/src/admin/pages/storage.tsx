// What uses how much of the disk, and what was removed to make room.

import { useEffect, useState } from "preact/hooks";
import { get, Problem, query } from "../../core/api.ts";
import { bytes, duration, percent } from "../../core/format.ts";
import type { JobState, StoredEvent } from "../../core/model.ts";
import { soon } from "../../core/soon.ts";
import { t } from "../../core/strings.ts";
import { Ago, Bar, Button, Mark, Notice, Panel, type Tone } from "../../parts/basics.tsx";
import { JOB_TONES } from "../../parts/tones.ts";
import { host, listen } from "../data.ts";
import { BAD_PERCENT, WARN_PERCENT } from "../limits.ts";
import { stored, type EventPage, type StorageReport } from "../model.ts";
import { href } from "../router.ts";

const SOON_MS = 1_000;

export function StoragePage() {
  const [found, setFound] = useState<StorageReport | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const read = async () => {
    try {
      setFound(await get<StorageReport>("/api/admin/storage"));
      setFailure(null);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setFailure(error.message);
    }
  };
  useEffect(() => {
    void read();
    const again = soon(read, SOON_MS);
    return listen((event) => {
      if (["file:deleted", "job:deleted", "job:completed", "job:created"].includes(event.type)) again();
    });
  }, []);
  const s = t.storagePage;
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.storage}</h1>
        <Button kind="small" icon="retry" does={read}>
          {t.common.refresh}
        </Button>
      </div>
      {failure && <Notice tone="bad">{failure}</Notice>}
      <div class="detail">
        <div class="stack">
          {found && <Usage report={found} />}
          {found && found.largest.length > 0 && <Largest report={found} />}
        </div>
        <div class="stack">
          {found && (
            <Panel title={s.space} body>
              <dl class="facts-list">
                <dt>{s.free}</dt>
                <dd>{bytes(found.free_bytes)}</dd>
                <dt>{s.promised}</dt>
                <dd>
                  {bytes(found.promised_bytes)} ({found.open_jobs})
                </dd>
                <dt>{s.reserve}</dt>
                <dd>{bytes(found.reserve_bytes)}</dd>
                <dt>{s.floor}</dt>
                <dd>{bytes(found.floor_bytes)}</dd>
                <dt>{s.target}</dt>
                <dd>{bytes(found.target_bytes)}</dd>
              </dl>
            </Panel>
          )}
          <Volumes />
          <Removed />
        </div>
      </div>
    </>
  );
}

function Usage({ report }: { report: StorageReport }) {
  const s = t.storagePage;
  const uses = Object.entries(report.uses).filter(([, size]) => size > 0);
  uses.sort(([, a], [, b]) => b - a);
  const most = Math.max(1, ...uses.map(([, size]) => size));
  return (
    <Panel title={s.usage} aside={<span class="muted small">{s.lead(bytes(report.free_bytes), bytes(report.total_bytes), report.path)}</span>}>
      <table class="table">
        <tbody>
          {uses.map(([kind, size]) => (
            <tr key={kind}>
              <td class="nowrap">{s.kinds[kind] ?? kind}</td>
              <td class="wide">
                <Bar share={size / most} label={s.kinds[kind] ?? kind} text={bytes(size)} tone="idle" />
              </td>
              <td class="num nowrap">{bytes(size)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

function Largest({ report }: { report: StorageReport }) {
  const s = t.storagePage;
  return (
    <Panel title={s.largest}>
      <div class="scroll">
        <table class="table cards">
          <thead>
            <tr>
              <th>{t.jobsPage.columns.name}</th>
              <th>{t.jobsPage.columns.state}</th>
              <th class="num">{s.columns.source}</th>
              <th class="num">{s.columns.scratch}</th>
              <th class="num">{s.columns.clips}</th>
            </tr>
          </thead>
          <tbody>
            {report.largest.map((each) => (
              <tr key={each.job}>
                <td class="wide breaks">
                  <a href={href("jobs", each.job)}>{each.name}</a>{" "}
                  {each.pinned && (
                    <Mark tone="work" icon="pin">
                      {t.jobs.pinned}
                    </Mark>
                  )}
                </td>
                <td data-label={t.jobsPage.columns.state}>
                  <Mark tone={JOB_TONES[each.state as JobState] ?? "idle"}>
                    {t.jobStates[each.state as JobState] ?? each.state}
                  </Mark>
                </td>
                <td class="num nowrap" data-label={s.columns.source}>
                  {bytes(each.bytes.source_bytes)}
                </td>
                <td class="num nowrap" data-label={s.columns.scratch}>
                  {bytes(each.bytes.scratch_bytes)}
                </td>
                <td class="num nowrap" data-label={s.columns.clips}>
                  {bytes(each.bytes.clip_bytes)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function Volumes() {
  const s = t.storagePage;
  const disks = host.value?.sample.disks ?? [];
  if (!disks.length) return null;
  return (
    <Panel title={s.volumes}>
      <ul>
        {disks.map((disk) => {
          const tone: Tone = disk.used_percent >= BAD_PERCENT ? "bad" : disk.used_percent >= WARN_PERCENT ? "warn" : "idle";
          return (
            <li key={disk.path} class="volume">
              <div class="row">
                <b class="grow breaks">{disk.path}</b>
                <span class="muted nowrap">{percent(disk.used_percent)}</span>
              </div>
              <Bar share={disk.used_percent / 100} tone={tone} label={disk.path} text={percent(disk.used_percent)} />
              <p class="muted small">
                {t.ops.gauges.free(disk.free_bytes)}, {s.holds.toLowerCase()} {disk.roles.join(", ")}
                {disk.full_in_s != null && `, ${s.full.toLowerCase()} ${duration(disk.full_in_s)}`}
              </p>
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}

function Removed() {
  const [events, setEvents] = useState<readonly StoredEvent[]>([]);
  useEffect(() => {
    get<EventPage>(`/api/admin/events${query({ type: "file:deleted", limit: 30 })}`).then(
      (page) => setEvents(page.events.map(stored)),
      (error: unknown) => {
        if (!(error instanceof Problem)) throw error;
      },
    );
    return listen((event) => event.type === "file:deleted" && setEvents((known) => [event, ...known].slice(0, 30)));
  }, []);
  return (
    <Panel title={t.storagePage.removed}>
      {events.length ? (
        <table class="table">
          <tbody>
            {events.map((event) => (
              <tr key={event.seq}>
                <td class="wide breaks">
                  {bytes(event.size_bytes as number)} <span class="muted">{String(event.reason)}</span>
                </td>
                <td class="nowrap muted">
                  <Ago at={event.ts} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p class="calm">{t.storagePage.removedNone}</p>
      )}
    </Panel>
  );
}
