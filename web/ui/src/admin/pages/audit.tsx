// Who did what, from where.

import { useEffect, useRef, useState } from "preact/hooks";
import { get, Problem, query } from "../../core/api.ts";
import type { StoredEvent } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { At, Button, Empty } from "../../parts/basics.tsx";
import { listen } from "../data.ts";
import { stored, type EventPage } from "../model.ts";

const PAGE = 100;
/** Lines that stay when new ones come, but for those that somebody asked for. */
const KEEP = 1_000;

interface Shown {
  events: readonly StoredEvent[];
  /** Whether older ones can be read. */
  more: boolean;
}

export function AuditPage() {
  const [{ events, more }, setShown] = useState<Shown>({ events: [], more: false });
  const [read, setRead] = useState(false);
  const asked = useRef(0);
  const load = async (cursor: number | null) => {
    const page = await get<EventPage>(`/api/admin/audit${query({ before: cursor, limit: PAGE })}`);
    asked.current += page.events.length;
    setShown((known) => ({ events: unique([...known.events, ...page.events.map(stored)]), more: page.next != null }));
    setRead(true);
  };
  useEffect(() => {
    load(null).catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
    });
    return listen((event) => event.type === "user:action" && setShown((known) => withNew(known, event, Math.max(KEEP, asked.current))));
  }, []);
  const c = t.audit.columns;
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.audit}</h1>
      </div>
      <p class="muted">{t.audit.lead}</p>
      <div class="panel scroll">
        {read && !events.length ? (
          <Empty icon="book" title={t.audit.empty} />
        ) : (
          <table class="table cards">
            <thead>
              <tr>
                <th>{c.when}</th>
                <th>{c.user}</th>
                <th>{c.action}</th>
                <th>{c.target}</th>
                <th>{c.remote}</th>
              </tr>
            </thead>
            <tbody>
              {events.map((event) => (
                <tr key={event.seq}>
                  <td class="nowrap muted" data-label={c.when}>
                    <At at={event.ts} />
                  </td>
                  <td class="nowrap" data-label={c.user}>
                    {String(event.user ?? "")}
                  </td>
                  <td class="nowrap mono" data-label={c.action}>
                    {String(event.action ?? "")}
                  </td>
                  <td class="wide breaks" data-label={c.target}>
                    {String(event.target ?? "")}
                  </td>
                  <td class="nowrap muted" data-label={c.remote}>
                    {String(event.remote ?? "")}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </div>
      {more && (
        <p class="more">
          <Button does={() => load(events.at(-1)?.seq ?? null)}>{t.common.more}</Button>
        </p>
      )}
    </>
  );
}

function withNew(known: Shown, event: StoredEvent, most: number): Shown {
  const all = unique([event, ...known.events]);
  return { events: all.slice(0, most), more: known.more || all.length > most };
}

function unique(events: readonly StoredEvent[]): StoredEvent[] {
  return [...new Map(events.map((event) => [event.seq, event])).values()].sort((a, b) => b.seq - a.seq);
}
