// The uploads that run, wait or need their file again.

import { useRef } from "preact/hooks";
import { bytes, duration, rate, share } from "../core/format.ts";
import { now } from "../core/live.ts";
import { t } from "../core/strings.ts";
import { Bar, Button, Mark, Panel, type Tone } from "../parts/basics.tsx";
import { uploads, type Sending, type UploadState, type UploadView } from "./queue.ts";

export function Uploads() {
  const all = uploads.value;
  if (!all.length) return null;
  return (
    <Panel title={t.upload.uploads}>
      <ul class="uploads">
        {all.map((each) => (
          <Row key={each.view.peek().key} sending={each} />
        ))}
      </ul>
    </Panel>
  );
}

const TONES: Record<UploadState, Tone> = {
  checking: "idle",
  refused: "bad",
  queued: "idle",
  sending: "work",
  paused: "idle",
  retrying: "warn",
  verifying: "work",
  done: "ok",
  failed: "bad",
  "needs-file": "warn",
};

function Row({ sending }: { sending: Sending }) {
  const view = sending.view.value;
  const part = view.size ? view.sent / view.size : 1;
  const tone = TONES[view.state];
  return (
    <li class="upload" data-upload={view.name} data-state={view.state}>
      <div class="line">
        <b class="grow cut" title={view.name}>
          {view.name}
        </b>
        <span class="small muted nowrap">{bytes(view.size)}</span>
        <Controls sending={sending} view={view} />
      </div>
      <Bar
        share={part}
        tone={tone === "work" ? undefined : tone}
        label={view.name}
        text={`${share(part)}, ${bytes(view.sent)}`}
      />
      <div class="line small">
        <Mark tone={tone}>{headline(view)}</Mark>
        <span class="grow" />
        <span class="muted nowrap">{view.state !== "checking" && view.state !== "refused" && share(part)}</span>
      </div>
      {detail(view) && <p class={`small ${tone === "bad" ? "" : "muted"} breaks`}>{detail(view)}</p>}
    </li>
  );
}

function headline(view: UploadView): string {
  switch (view.state) {
    case "checking":
      return t.upload.checking;
    case "queued":
      return t.upload.waiting;
    case "sending": {
      const left = view.speed ? duration((view.size - view.sent) / view.speed) : null;
      return left ? t.upload.speed(rate(view.speed), left) : t.upload.starting;
    }
    case "paused":
      return t.upload.paused;
    case "retrying":
      return view.error ? t.upload.waits : t.upload.retrying;
    case "verifying":
      return t.upload.verifying;
    case "done":
      return t.upload.done;
    case "failed":
      return t.upload.failed;
    case "refused":
      return t.upload.refused;
    case "needs-file":
      return t.upload.interrupted;
  }
}

function detail(view: UploadView): string | null {
  if (view.error) return view.error;
  const { forecast } = view;
  if (view.state === "needs-file") {
    const left_s = view.expires_at ? (Date.parse(view.expires_at) - now.value) / 1000 : 0;
    return left_s > 0 ? `${t.upload.needsFile} ${t.upload.kept(duration(left_s))}` : t.upload.needsFile;
  }
  if (!forecast) return null;
  if (!forecast.intake.open) return t.upload.intakeClosed(forecast.intake.reason ?? t.common.unknown);
  if (!forecast.fits) {
    return forecast.reason ?? t.upload.doesNotFit(forecast.need_bytes, forecast.free_bytes, forecast.reserve_bytes);
  }
  return view.state === "done" ? null : t.upload.fits(forecast.need_bytes, forecast.free_bytes);
}

function Controls({ sending, view }: { sending: Sending; view: UploadView }) {
  const chooser = useRef<HTMLInputElement>(null);
  const { state, name } = view;
  const remove = (
    <Button
      kind="plain small"
      icon="close"
      aria-label={`${t.upload.cancel} ${name}`}
      title={t.upload.cancel}
      does={() => sending.cancel()}
    />
  );
  if (state === "verifying" || state === "done") return null;
  return (
    <>
      {(state === "sending" || state === "queued" || state === "retrying") && (
        <Button
          kind="plain small"
          icon="pause"
          aria-label={`${t.upload.pause} ${name}`}
          title={t.upload.pause}
          onClick={() => sending.pause()}
        />
      )}
      {state === "paused" && (
        <Button
          kind="plain small"
          icon="play"
          aria-label={`${t.upload.resume} ${name}`}
          title={t.upload.resume}
          onClick={() => sending.resume()}
        />
      )}
      {(state === "refused" || state === "failed") && (
        <Button
          kind="plain small"
          icon="retry"
          aria-label={`${t.common.retry} ${name}`}
          title={t.common.retry}
          onClick={() => void sending.check()}
        />
      )}
      {state === "needs-file" && (
        <>
          <Button kind="small" onClick={() => chooser.current?.click()}>
            {t.upload.reselect}
          </Button>
          <input
            ref={chooser}
            class="sr"
            type="file"
            tabIndex={-1}
            aria-label={`${t.upload.reselect} ${name}`}
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              if (file) sending.take(file);
              event.currentTarget.value = "";
            }}
          />
        </>
      )}
      {remove}
    </>
  );
}
