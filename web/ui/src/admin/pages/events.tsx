// The live tap with filter and pause, and the history behind it.

import { useState } from "preact/hooks";
import { get, query } from "../../core/api.ts";
import type { StoredEvent } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { Button, complain, Empty } from "../../parts/basics.tsx";
import { Dialog } from "../../parts/dialog.tsx";
import { doc, tap, TAP_MAX } from "../data.ts";
import { matches } from "../events.ts";
import { EventLine } from "../lines.tsx";
import { stored, type EventPage } from "../model.ts";

const DRAWN = 300;
const PAGE = 100;

export function EventsPage() {
  const [mode, setMode] = useState<"live" | "history">("live");
  const [filter, setFilter] = useState("");
  const [shown, setShown] = useState<StoredEvent | null>(null);
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.events}</h1>
        <div class="filters">
          <div class="segments" role="group" aria-label={t.ops.pages.events}>
            {(["live", "history"] as const).map((each) => (
              <button key={each} type="button" aria-pressed={mode === each} onClick={() => setMode(each)}>
                {t.eventsPage[each]}
              </button>
            ))}
          </div>
          <label class="sr" for="event-filter">
            {t.eventsPage.filter}
          </label>
          <input
            id="event-filter"
            class="input"
            type="search"
            placeholder={t.eventsPage.filterHint}
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        </div>
      </div>
      {mode === "live" ? <Tap filter={filter} onShow={setShown} /> : <History filter={filter} onShow={setShown} />}
      {shown && (
        <Dialog title={t.eventsPage.details} onClose={() => setShown(null)} class="wide">
          <pre class="log">{JSON.stringify(shown, null, 2)}</pre>
          <footer>
            <Button onClick={() => setShown(null)}>{t.common.close}</Button>
          </footer>
        </Dialog>
      )}
    </>
  );
}

interface ListProps {
  filter: string;
  onShow(event: StoredEvent): void;
}

function Tap({ filter, onShow }: ListProps) {
  const [frozen, setFrozen] = useState<readonly StoredEvent[] | null>(null);
  const events = frozen ?? tap.value;
  const since = frozen?.[0]?.seq ?? 0;
  const held = frozen ? tap.value.filter((event) => event.seq > since).length : 0;
  const found = events.filter((event) => matches(event, filter)).slice(0, DRAWN);
  return (
    <section class="panel">
      <header>
        <span class="muted small grow">
          {frozen ? t.eventsPage.held(held) : t.eventsPage.kept(tap.value.length, TAP_MAX)}
        </span>
        <Button kind="small" icon={frozen ? "play" : "pause"} onClick={() => setFrozen(frozen ? null : tap.value)}>
          {frozen ? t.eventsPage.go : t.eventsPage.pause}
        </Button>
      </header>
      <List events={found} onShow={onShow} none={tap.value.length ? t.eventsPage.none : t.eventsPage.empty} />
    </section>
  );
}

function History({ filter, onShow }: ListProps) {
  const [events, setEvents] = useState<readonly StoredEvent[]>([]);
  const [before, setBefore] = useState<number | null>(null);
  const [begun, setBegun] = useState(false);
  const read = async (cursor: number | null) => {
    const page = await get<EventPage>(`/api/admin/events${query({ before: cursor, limit: PAGE })}`);
    setEvents((known) => [...(cursor ? known : []), ...page.events.map(stored)]);
    setBefore(page.next);
    setBegun(true);
  };
  if (!begun && doc.value) {
    setBegun(true);
    read(null).catch(complain);
  }
  const found = events.filter((event) => matches(event, filter));
  return (
    <section class="panel">
      <List events={found} onShow={onShow} none={events.length ? t.eventsPage.none : t.common.loading} />
      {before != null && (
        <p class="more">
          <Button does={() => read(before)}>{t.eventsPage.older}</Button>
        </p>
      )}
    </section>
  );
}

function List({ events, onShow, none }: { events: readonly StoredEvent[]; onShow(event: StoredEvent): void; none: string }) {
  if (!events.length) return <Empty icon="pulse" title={none} />;
  return (
    <ul class="lines tap" tabIndex={0} aria-label={t.ops.pages.events}>
      {events.map((event) => (
        <EventLine key={event.seq} event={event}>
          <Button
            kind="plain small"
            icon="eye"
            aria-label={`${t.eventsPage.details}: ${event.type} ${event.seq}`}
            title={t.eventsPage.details}
            onClick={() => onShow(event)}
          />
        </EventLine>
      ))}
    </ul>
  );
}
