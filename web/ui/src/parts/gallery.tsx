// The clips of one video: posters that play, and what the others wait for.

import { useState } from "preact/hooks";
import { clock, share } from "../core/format.ts";
import { clipSteps, type JobView } from "../core/jobs.ts";
import type { Clip } from "../core/model.ts";
import { t } from "../core/strings.ts";
import { Icon } from "./icons.tsx";
import { Strip } from "./strip.tsx";
import { Player } from "./player.tsx";

export function Gallery({ view }: { view: JobView }) {
  const [playing, setPlaying] = useState<number | null>(null);
  const ready = view.clips.filter((clip) => clip.state === "ready" && clip.urls);
  const current = ready.find((clip) => clip.clip === playing);
  const beside = (step: number) => ready[ready.findIndex((clip) => clip.clip === playing) + step];
  return (
    <>
      <ul class="gallery">
        {view.clips.map((clip) => (
          <li key={clip.clip} class="clip" data-clip={clip.clip} data-state={clip.state}>
            {clip.state === "ready" && clip.urls ? (
              <Poster clip={clip} onPlay={() => setPlaying(clip.clip)} />
            ) : (
              <Waits view={view} clip={clip} />
            )}
            <p class="title" title={clip.title}>
              {clip.title}
            </p>
          </li>
        ))}
      </ul>
      {current && (
        <Player
          key={current.clip}
          clip={current}
          onClose={() => setPlaying(null)}
          onStep={(step) => {
            const next = beside(step);
            if (next) setPlaying(next.clip);
          }}
          first={!beside(-1)}
          last={!beside(1)}
        />
      )}
    </>
  );
}

function Poster({ clip, onPlay }: { clip: Clip; onPlay(): void }) {
  return (
    <div class="poster">
      <button type="button" onClick={onPlay} aria-label={t.clip.play(clip.title)}>
        {clip.urls && <img src={clip.urls.thumbnail} alt="" loading="lazy" decoding="async" />}
        <span class="go">
          <Icon name="play" />
        </span>
      </button>
      <span class="score" title={t.clip.scoreHint}>
        <span class="sr">{t.clip.score} </span>
        {Math.round(clip.score * 100)}
      </span>
      <span class="time">{clock(clip.duration_s ?? clip.end_s - clip.start_s)}</span>
    </div>
  );
}

function Waits({ view, clip }: { view: JobView; clip: Clip }) {
  const running = view.progress[clip.clip];
  const failed = clip.state === "failed";
  if (clip.state === "ready") {
    return (
      <div class="waits">
        <Icon name="trash" size={22} />
        <span>{t.clip.removed}</span>
      </div>
    );
  }
  return (
    <div class={`waits${failed ? " bad" : ""}`}>
      <Icon name={failed ? "bad" : clip.state === "running" ? "work" : "wait"} size={22} />
      <span>{failed ? t.clip.failed : running ? t.clip.works(t.stages[running.stage], share(running.done)) : t.clipStates[clip.state]}</span>
      {failed ? <span class="breaks">{clip.error}</span> : <Strip bare steps={clipSteps(view, clip)} label={clip.title} />}
    </div>
  );
}
