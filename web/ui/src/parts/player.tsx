// A clip, played upright, with why it was chosen and its files.

import { bytes, clock } from "../core/format.ts";
import type { Clip } from "../core/model.ts";
import { t } from "../core/strings.ts";
import { Bar, Button } from "./basics.tsx";
import { Dialog } from "./dialog.tsx";
import { Icon } from "./icons.tsx";

interface Props {
  clip: Clip;
  first: boolean;
  last: boolean;
  onClose(): void;
  onStep(step: -1 | 1): void;
}

export function Player({ clip, first, last, onClose, onStep }: Props) {
  const urls = clip.urls!;
  const score = Math.round(clip.score * 100);
  const file = (path: string) => `${path}?download=1`;
  return (
    <Dialog title={clip.title} class="player" bare onClose={onClose}>
      <div class="inside" onKeyDown={(event) => stepByKey(event, onStep)}>
        <video src={urls.video} poster={urls.thumbnail} controls autoplay playsInline preload="metadata">
          <track kind="captions" src={urls.vtt} label={t.clip.captions} srclang="und" />
        </video>
        <div class="about">
          <header>
            <h2 class="grow">{clip.title}</h2>
            {!(first && last) && (
              <>
                <Button kind="plain" icon="left" disabled={first} onClick={() => onStep(-1)} aria-label={t.clip.previous} />
                <Button kind="plain" icon="right" disabled={last} onClick={() => onStep(1)} aria-label={t.clip.next} />
              </>
            )}
            <Button kind="plain" icon="close" aria-label={t.common.close} onClick={onClose} />
          </header>
          <p class="muted">
            {t.clip.number(clip.clip)} · {clock(clip.duration_s)} · {t.clip.from(clock(clip.start_s), clock(clip.end_s))}
          </p>
          <div class="score" title={t.clip.scoreHint}>
            <span>{t.clip.score}</span>
            <b>{score}</b>
            <Bar share={clip.score} label={t.clip.score} text={String(score)} />
          </div>
          <section class="stack-s">
            <h3>{t.clip.why}</h3>
            {clip.reasons.length ? (
              <ul class="reasons">
                {clip.reasons.map((reason) => (
                  <li key={reason}>
                    <Icon name="check" size={14} />
                    <span class="breaks">{reason}</span>
                  </li>
                ))}
              </ul>
            ) : (
              <p class="muted">{t.clip.noReasons}</p>
            )}
          </section>
          <div class="row wrap">
            <a class="button main" href={file(urls.video)} download>
              <Icon name="download" />
              {t.common.download} {bytes(clip.size_bytes)}
            </a>
            <a class="button" href={file(urls.srt)} download>
              SRT
            </a>
            <a class="button" href={file(urls.vtt)} download>
              VTT
            </a>
            <a class="button" href={file(urls.thumbnail)} download>
              {t.clip.thumbnail}
            </a>
          </div>
        </div>
      </div>
    </Dialog>
  );
}

function stepByKey(event: KeyboardEvent, onStep: Props["onStep"]): void {
  if ((event.target as Element).tagName === "VIDEO") return;
  if (event.key === "ArrowLeft") onStep(-1);
  if (event.key === "ArrowRight") onStep(1);
}
