// What the login and claim pages share: the card, and a password that can be shown.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { t } from "../core/strings.ts";
import { Button } from "./basics.tsx";
import { Logo } from "./icons.tsx";

export function Card({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <main class="card-page">
      <div class="brand">
        <Logo />
        <span>{t.product}</span>
      </div>
      <section class="panel stack" aria-labelledby="title">
        <h1 id="title">{title}</h1>
        {children}
      </section>
    </main>
  );
}

interface PasswordProps {
  id: string;
  name: string;
  autocomplete: "current-password" | "new-password";
  value: string;
  onValue(value: string): void;
  aria?: object;
}

export function Password({ onValue, aria, ...rest }: PasswordProps) {
  const [shown, setShown] = useState(false);
  const type: string = shown ? "text" : "password";
  return (
    <div class="reveal">
      <input
        class="input"
        required
        {...rest}
        {...aria}
        type={type as "text"}
        onInput={(event) => onValue(event.currentTarget.value)}
      />
      <Button
        kind="plain"
        icon="eye"
        aria-label={shown ? t.login.hidePassword : t.login.showPassword}
        aria-pressed={shown}
        onClick={() => setShown(!shown)}
      />
    </div>
  );
}
