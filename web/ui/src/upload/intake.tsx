// Where videos come in: drop zone, file chooser, address, and what is wanted of the clips.

import { signal } from "@preact/signals";
import { useRef, useState } from "preact/hooks";
import { bytes } from "../core/format.ts";
import { t } from "../core/strings.ts";
import { Button, Field, Notice } from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { fetchUrl, room, type IntakeOptions } from "./data.ts";
import { add } from "./queue.ts";

const options = signal<IntakeOptions>({ clips: null, length: "" });
const MOST_CLIPS = 20;

export function Intake() {
  return (
    <section class="stack" aria-label={t.upload.title}>
      <DropZone />
      <div class="panel intake-form">
        <Address />
        <Options />
      </div>
    </section>
  );
}

function DropZone() {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const chooser = useRef<HTMLInputElement>(null);
  const closed = room.value && !room.value.intake.open;
  return (
    <div
      class={`drop${over ? " over" : ""}`}
      onDragEnter={(event) => {
        event.preventDefault();
        depth.current += 1;
        setOver(true);
      }}
      onDragOver={(event) => event.preventDefault()}
      onDragLeave={() => {
        depth.current -= 1;
        if (depth.current <= 0) setOver(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        depth.current = 0;
        setOver(false);
        add(event.dataTransfer?.files ?? [], options.peek());
      }}
    >
      <Icon name="upload" size={26} />
      <strong>{over ? t.upload.dropNow : t.upload.drop}</strong>
      <Button kind="main" onClick={() => chooser.current?.click()}>
        {t.upload.choose}
      </Button>
      <input
        ref={chooser}
        class="sr"
        type="file"
        accept="video/*,audio/*,.mkv,.ts,.mts"
        multiple
        tabIndex={-1}
        aria-label={t.upload.choose}
        onChange={(event) => {
          add(event.currentTarget.files ?? [], options.peek());
          event.currentTarget.value = "";
        }}
      />
      <p class="muted small">
        {t.upload.hint}
        {room.value && !closed && <> {t.upload.free(bytes(room.value.free_bytes))}</>}
      </p>
      {closed && <Notice tone="warn">{t.upload.intakeClosed(room.value?.intake.reason ?? t.common.unknown)}</Notice>}
    </div>
  );
}

function Address() {
  const [url, setUrl] = useState("");
  const [error, setError] = useState<string | null>(null);
  const submit = async () => {
    const address = url.trim();
    if (!/^https?:\/\/\S+$/i.test(address)) {
      setError(t.upload.urlBad);
      return;
    }
    setError(null);
    await fetchUrl(address, options.peek());
    setUrl("");
  };
  const button = useRef<HTMLDivElement>(null);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        button.current?.querySelector("button")?.click();
      }}
    >
      <Field label={t.upload.urlLabel} error={error}>
        {(id, aria) => (
          <div class="row" ref={button}>
            <input
              id={id}
              class="input"
              type="url"
              inputMode="url"
              autocomplete="off"
              placeholder={t.upload.urlPlaceholder}
              value={url}
              onInput={(event) => setUrl(event.currentTarget.value)}
              {...aria}
            />
            <Button does={submit} disabled={!url.trim()}>
              {t.upload.urlSubmit}
            </Button>
          </div>
        )}
      </Field>
    </form>
  );
}

function Options() {
  const chosen = options.value;
  return (
    <details class="options">
      <summary>{t.upload.options}</summary>
      <div class="grid">
        <Field label={t.upload.clips}>
          {(id) => (
            <input
              id={id}
              class="input"
              type="number"
              min={1}
              max={MOST_CLIPS}
              placeholder={t.upload.clipsAuto}
              value={chosen.clips ?? ""}
              onInput={(event) => {
                const value = Number(event.currentTarget.value);
                options.value = { ...chosen, clips: value >= 1 && value <= MOST_CLIPS ? Math.floor(value) : null };
              }}
            />
          )}
        </Field>
        <Field label={t.upload.length}>
          {(id) => (
            <select
              id={id}
              class="input"
              value={chosen.length}
              onChange={(event) => (options.value = { ...chosen, length: event.currentTarget.value })}
            >
              {Object.entries(t.upload.lengths).map(([value, label]) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
    </details>
  );
}
