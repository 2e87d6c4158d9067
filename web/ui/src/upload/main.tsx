// The upload page: videos in, clips out.

import { t } from "../core/strings.ts";
import { Button, Empty } from "../parts/basics.tsx";
import { applyTheme, draw, enter, Frame, may } from "../parts/frame.tsx";
import { live, more, readMore, store } from "./data.ts";
import { Intake } from "./intake.tsx";
import { JobCard } from "./job.tsx";
import { findUnfinished } from "./queue.ts";
import { Uploads } from "./uploads.tsx";

const OPENED = 2;

function Page() {
  const ids = store.order.value;
  return (
    <Frame page="videos">
      <main id="main" class="videos" tabIndex={-1}>
        {may("operator") && (
          <div class="side">
            <h1 class="sr">{t.upload.title}</h1>
            <Intake />
            <Uploads />
          </div>
        )}
        <section aria-labelledby="videos-title">
          <header>
            <h2 id="videos-title">{t.jobs.title}</h2>
          </header>
          {store.loaded.value && !ids.length ? (
            <div class="panel">
              <Empty icon="film" title={t.jobs.empty}>
                <p>{may("operator") ? t.jobs.emptyHint : t.jobs.emptyHintViewer}</p>
              </Empty>
            </div>
          ) : (
            <div class="jobs" aria-busy={!store.loaded.value}>
              {ids.map((id, index) => (
                <JobCard key={id} view={store.get(id)!} open={index < OPENED} />
              ))}
            </div>
          )}
          {more.value && (
            <p class="row wrap more">
              <Button does={readMore}>{t.jobs.more}</Button>
            </p>
          )}
        </section>
      </main>
    </Frame>
  );
}

applyTheme();
if (await enter()) {
  draw(<Page />);
  void live.start();
  if (may("operator")) void findUnfinished();
}
