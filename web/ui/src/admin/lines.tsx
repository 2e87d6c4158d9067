// Events as lines: time, type, what.

import type { ComponentChildren } from "preact";
import type { StoredEvent } from "../core/model.ts";
import { shortId } from "../core/format.ts";
import { At } from "../parts/basics.tsx";
import { store } from "./data.ts";
import { describe, isBad } from "./events.ts";
import { href } from "./router.ts";

/** What the event is about: the video's name where the page knows it, else the end of its id. */
function About({ event }: { event: StoredEvent }) {
  if (!event.job) return null;
  void store.order.value; // names arrive with the list of jobs
  const name = store.get(event.job)?.value.job.name ?? shortId(event.job);
  return (
    <>
      <a href={href("jobs", event.job)}>{name}</a>
      {event.clip != null && ` #${event.clip}`}
      {" "}
    </>
  );
}

export function EventLine({ event, about = true, children }: { event: StoredEvent; about?: boolean; children?: ComponentChildren }) {
  return (
    <li class={isBad(event) ? "bad" : ""} data-seq={event.seq} data-type={event.type}>
      <span class="when">
        <At at={event.ts} />
      </span>
      <span class="type">{event.type}</span>
      <span class="what" title={describe(event)}>
        {about ? <About event={event} /> : event.clip != null && `#${event.clip} `}
        {describe(event)}
      </span>
      {children}
    </li>
  );
}
