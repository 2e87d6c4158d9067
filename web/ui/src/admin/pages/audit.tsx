// Who did what, from where.

import { useEffect, useState } from "preact/hooks";
import { get, Problem, query } from "../../core/api.ts";
import type { StoredEvent } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { At, Button, Empty } from "../../parts/basics.tsx";
import { listen } from "../data.ts";
import { stored, type EventPage } from "../model.ts";

const PAGE = 100;

export function AuditPage() {
  const [events, setEvents] = useState<readonly StoredEvent[]>([]);
  const [before, setBefore] = useState<number | null>(null);
  const [read, setRead] = useState(false);
  const load = async (cursor: number | null) => {
    const page = await get<EventPage>(`/api/admin/audit${query({ before: cursor, limit: PAGE })}`);
    setEvents((known) => unique([...known, ...page.events.map(stored)]));
    setBefore(page.next);
    setRead(true);
  };
  useEffect(() => {
    load(null).catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
    });
    return listen((event) => event.type === "user:action" && setEvents((known) => unique([event, ...known])));
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
      {before != null && (
        <p class="more">
          <Button does={() => load(before)}>{t.common.more}</Button>
        </p>
      )}
    </>
  );
}

function unique(events: readonly StoredEvent[]): StoredEvent[] {
  return [...new Map(events.map((event) => [event.seq, event])).values()].sort((a, b) => b.seq - a.seq);
}
