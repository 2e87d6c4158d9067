// The operations pages.

import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { t } from "../core/strings.ts";
import { count } from "../core/format.ts";
import { Empty, Notice } from "../parts/basics.tsx";
import { applyTheme, draw, enter, Frame, may } from "../parts/frame.tsx";
import { Icon, type IconName } from "../parts/icons.tsx";
import type { Role } from "../core/model.ts";
import { begin, deadCount, doc, trouble } from "./data.ts";
import { href, route } from "./router.ts";
import { AlertsPage } from "./pages/alerts.tsx";
import { AuditPage } from "./pages/audit.tsx";
import { DeadLettersPage } from "./pages/deadletters.tsx";
import { EventsPage } from "./pages/events.tsx";
import { JobPage } from "./pages/job.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { Overview } from "./pages/overview.tsx";
import { StoragePage } from "./pages/storage.tsx";
import { UsersPage } from "./pages/users.tsx";
import { WorkersPage } from "./pages/workers.tsx";

const LATE_MS = 100;

interface PageInfo {
  name: string;
  icon: IconName;
  role: Role;
  page: ComponentType;
}

const PAGES: Record<string, PageInfo> = {
  overview: { name: t.ops.pages.overview, icon: "home", role: "operator", page: Overview },
  jobs: { name: t.ops.pages.jobs, icon: "film", role: "operator", page: JobsPage },
  "dead-letters": { name: t.ops.pages.deadLetters, icon: "letter", role: "operator", page: DeadLettersPage },
  workers: { name: t.ops.pages.workers, icon: "workers", role: "operator", page: WorkersPage },
  events: { name: t.ops.pages.events, icon: "pulse", role: "operator", page: EventsPage },
  alerts: { name: t.ops.pages.alerts, icon: "bell", role: "operator", page: AlertsPage },
  storage: { name: t.ops.pages.storage, icon: "disk", role: "operator", page: StoragePage },
  users: { name: t.ops.pages.users, icon: "key", role: "admin", page: UsersPage },
  audit: { name: t.ops.pages.audit, icon: "book", role: "admin", page: AuditPage },
};

function Navigation() {
  const { page } = route.value;
  const severities = doc.value?.alerts?.severities;
  const counts: Record<string, number> = {
    "dead-letters": deadCount.value ?? 0,
    alerts: (severities?.warning ?? 0) + (severities?.critical ?? 0),
  };
  return (
    <nav class="nav" aria-label={t.ops.title}>
      <ul>
        {Object.entries(PAGES)
          .filter(([, info]) => may(info.role))
          .map(([key, info]) => (
            <li key={key}>
              <a href={href(key)} aria-current={page === key ? "page" : undefined}>
                <Icon name={info.icon} />
                {info.name}
                {counts[key] ? <span class="count">{count(counts[key])}</span> : null}
              </a>
            </li>
          ))}
      </ul>
    </nav>
  );
}

function Page() {
  const { page, id } = route.value;
  const info = PAGES[page];
  const allowed = info && may(info.role);
  useEffect(() => {
    document.title = `${info?.name ?? t.ops.title} · ${t.product}`;
  }, [page]);
  return (
    <Frame page="operations">
      <div class="ops">
        <Navigation />
        <main id="main" tabIndex={-1}>
          {trouble.value && !doc.value && <Notice tone="bad">{trouble.value.message}</Notice>}
          {!allowed ? (
            <Empty icon="warn" title={t.ops.noPage} />
          ) : page === "jobs" && id ? (
            <JobPage key={id} id={id} />
          ) : (
            <info.page />
          )}
        </main>
      </div>
    </Frame>
  );
}

applyTheme();
if (await enter()) {
  if (!may("operator")) location.replace("/");
  else {
    // Drawn once, with the data, unless that is long in coming.
    await Promise.race([begin(), new Promise((late) => setTimeout(late, LATE_MS))]);
    draw(<Page />);
  }
}
