// Log in.

import { useState } from "preact/hooks";
import { get, post, Problem } from "../core/api.ts";
import { destination } from "../core/destination.ts";
import { t } from "../core/strings.ts";
import { Button, Field, Notice } from "../parts/basics.tsx";
import { Card, Password } from "../parts/card.tsx";
import { applyTheme, draw } from "../parts/frame.tsx";

const after = () => destination(new URLSearchParams(location.search).get("next"), location.origin);

function explain(error: unknown): string {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 429) {
    const wait = Number(error.document.retry_after_s ?? NaN);
    return Number.isFinite(wait) ? t.login.slow(wait) : t.login.slowUnknown;
  }
  return error.status === 401 ? t.login.wrong : error.message;
}

function Login({ claimed }: { claimed: boolean }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      await post("/api/login", { user, password }, { anonymous: true });
      location.replace(after());
    } catch (problem) {
      setError(explain(problem));
      setBusy(false);
    }
  };
  return (
    <Card title={t.login.title}>
      {!claimed && <Notice tone="warn">{t.login.unclaimed}</Notice>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Field label={t.login.user}>
          {(id) => (
            <input
              id={id}
              class="input"
              name="username"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              required
              autofocus
              value={user}
              onInput={(event) => setUser(event.currentTarget.value)}
            />
          )}
        </Field>
        <Field label={t.login.password}>
          {(id) => (
            <Password
              id={id}
              name="password"
              autocomplete="current-password"
              value={password}
              onValue={setPassword}
            />
          )}
        </Field>
        {error && <Notice tone="bad">{error}</Notice>}
        <Button type="submit" kind="main" disabled={busy}>
          {busy ? t.login.wait : t.login.submit}
        </Button>
      </form>
    </Card>
  );
}

async function start(): Promise<void> {
  let claimed = true;
  try {
    await get("/api/me", { anonymous: true });
    location.replace(after());
    return;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    claimed = error.document.claimed !== false;
  }
  draw(<Login claimed={claimed} />);
}

applyTheme();
void start();
