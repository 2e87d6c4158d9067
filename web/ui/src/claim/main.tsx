// The first administrator, by the one-time address that the box printed.

import { useState } from "preact/hooks";
import { post, Problem } from "../core/api.ts";
import { t } from "../core/strings.ts";
import { Button, Field, Notice } from "../parts/basics.tsx";
import { Card, Password } from "../parts/card.tsx";
import { applyTheme, draw } from "../parts/frame.tsx";

const SHORTEST = 10;

/** The token stands behind `#` or in the query. It is taken out of the address bar and the history at once. */
function takeToken(): string {
  const hash = location.hash.replace(/^#/, "");
  const found = new URLSearchParams(hash.includes("=") ? hash : location.search).get("token") ?? hash;
  history.replaceState(null, "", location.pathname);
  return found;
}

function Claim({ token }: { token: string }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const short = tried && password.length < SHORTEST ? t.claim.short : null;
  const differs = tried && again !== password ? t.claim.differs : null;
  const submit = async () => {
    setTried(true);
    setError(null);
    if (password.length < SHORTEST || again !== password) return;
    setBusy(true);
    try {
      await post("/api/claim", { token, user, password }, { anonymous: true });
      location.replace("/");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setError(problem.message);
      setBusy(false);
    }
  };
  if (!token) {
    return (
      <Card title={t.claim.title}>
        <Notice tone="warn">
          <strong>{t.claim.noToken}</strong>
          <p>{t.claim.noTokenHint}</p>
        </Notice>
        <a class="button" href="/login">
          {t.claim.toLogin}
        </a>
      </Card>
    );
  }
  return (
    <Card title={t.claim.title}>
      <p class="muted">{t.claim.lead}</p>
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Field label={t.claim.user}>
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
        <Field label={t.claim.password} hint={t.claim.passwordHint} error={short}>
          {(id, aria) => (
            <Password
              id={id}
              name="new-password"
              autocomplete="new-password"
              value={password}
              onValue={setPassword}
              aria={aria}
            />
          )}
        </Field>
        <Field label={t.claim.repeat} error={differs}>
          {(id, aria) => (
            <Password
              id={id}
              name="repeat-password"
              autocomplete="new-password"
              value={again}
              onValue={setAgain}
              aria={aria}
            />
          )}
        </Field>
        {error && <Notice tone="bad">{error}</Notice>}
        <Button type="submit" kind="main" disabled={busy || !user}>
          {busy ? t.login.wait : t.claim.submit}
        </Button>
      </form>
    </Card>
  );
}

applyTheme();
draw(<Claim token={takeToken()} />);
