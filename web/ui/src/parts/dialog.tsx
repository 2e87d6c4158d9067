// Dialogs: the browser's own, so that focus, Escape and the rest of the page behave.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { t } from "../core/strings.ts";
import { Button } from "./basics.tsx";

export function Dialog(props: { title: string; class?: string; bare?: boolean; onClose(): void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current!;
    const before = document.activeElement as HTMLElement | null;
    element.showModal();
    return () => {
      element.close();
      before?.focus?.();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={props.class}
      aria-labelledby={props.bare ? undefined : id}
      aria-label={props.bare ? props.title : undefined}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === dialog.current && props.onClose()}
    >
      {props.bare ? (
        props.children
      ) : (
        <div class="dialog">
          <h2 id={id}>{props.title}</h2>
          {props.children}
        </div>
      )}
    </dialog>
  );
}

interface Question {
  title: string;
  text: string;
  yes: string;
  no?: string;
  danger?: boolean;
  does(): unknown;
}

const question = signal<Question | null>(null);

/** Ask before something that cannot be taken back. */
export function ask(what: Question): void {
  question.value = what;
}

export function Questions() {
  const asked = question.value;
  if (!asked) return null;
  const close = () => (question.value = null);
  return (
    <Dialog title={asked.title} onClose={close}>
      <p class="breaks">{asked.text}</p>
      <footer>
        <Button onClick={close}>{asked.no ?? t.common.cancel}</Button>
        <Button
          kind={asked.danger ? "danger main" : "main"}
          does={async () => {
            await asked.does();
            close();
          }}
        >
          {asked.yes}
        </Button>
      </footer>
    </Dialog>
  );
}
