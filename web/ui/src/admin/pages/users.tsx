// People and programs that may use the box.

import { useEffect, useState } from "preact/hooks";
import { get, patch, post, Problem, remove, useCsrf } from "../../core/api.ts";
import type { Me, Role } from "../../core/model.ts";
import { t } from "../../core/strings.ts";
import { Ago, At, Button, complain, Empty, Field, Mark, Notice, Panel, say } from "../../parts/basics.tsx";
import { Password } from "../../parts/card.tsx";
import { ask, Dialog } from "../../parts/dialog.tsx";
import { me } from "../../parts/frame.tsx";

interface User {
  user: string;
  role: Role;
  disabled: boolean;
  created_at: string;
}

interface Token {
  id: string;
  name: string;
  role: Role;
  created_by: string;
  created_at: string;
  expires_at: string | null;
  used_at: string | null;
}

const ROLES: Role[] = ["viewer", "operator", "admin"];

type Asked = { what: "user" } | { what: "token" } | { what: "password"; user: string } | { what: "secret"; secret: string };

export function UsersPage() {
  const [users, setUsers] = useState<readonly User[] | null>(null);
  const [tokens, setTokens] = useState<readonly Token[] | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [asked, setAsked] = useState<Asked | null>(null);
  const read = async () => {
    try {
      const [people, programs] = await Promise.all([
        get<{ users: User[] }>("/api/admin/users"),
        get<{ tokens: Token[] }>("/api/tokens"),
      ]);
      setUsers(people.users);
      setTokens(programs.tokens);
      setFailure(null);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setFailure(error.message);
    }
  };
  useEffect(() => void read(), []);
  const close = () => setAsked(null);
  const p = t.usersPage;
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.users}</h1>
      </div>
      {failure && <Notice tone="bad">{failure}</Notice>}
      <Panel
        title={p.users}
        aside={
          <Button kind="small" icon="plus" onClick={() => setAsked({ what: "user" })}>
            {p.add}
          </Button>
        }
      >
        <table class="table cards">
          <thead>
            <tr>
              <th>{p.name}</th>
              <th>{p.role}</th>
              <th>{p.created}</th>
              <th>
                <span class="sr">{p.actions}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {users?.map((user) => (
              <UserRow key={user.user} user={user} onRead={read} onPassword={() => setAsked({ what: "password", user: user.user })} />
            ))}
          </tbody>
        </table>
      </Panel>
      <Panel
        title={p.tokens}
        aside={
          <Button kind="small" icon="plus" onClick={() => setAsked({ what: "token" })}>
            {p.addToken}
          </Button>
        }
      >
        {tokens && !tokens.length ? (
          <Empty icon="key" title={p.noTokens}>
            {p.tokensLead}
          </Empty>
        ) : (
          <table class="table cards">
            <thead>
              <tr>
                <th>{p.name}</th>
                <th>{p.role}</th>
                <th>{p.created}</th>
                <th>{p.lastUsed}</th>
                <th>{p.expires}</th>
                <th>
                  <span class="sr">{p.actions}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {tokens?.map((token) => (
                <TokenRow key={token.id} token={token} onRead={read} />
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {asked?.what === "user" && <AddUser onClose={close} onRead={read} />}
      {asked?.what === "token" && <AddToken onClose={close} onMade={(secret) => (setAsked({ what: "secret", secret }), read())} />}
      {asked?.what === "password" && <SetPassword user={asked.user} onClose={close} />}
      {asked?.what === "secret" && <Secret secret={asked.secret} onClose={close} />}
    </>
  );
}

function UserRow({ user, onRead, onPassword }: { user: User; onRead(): Promise<void>; onPassword(): void }) {
  const p = t.usersPage;
  const mine = user.user === me.value?.user;
  const path = `/api/admin/users/${encodeURIComponent(user.user)}`;
  const change = async (body: object) => {
    await patch(path, body);
    await onRead();
  };
  return (
    <tr data-user={user.user}>
      <td class="wide breaks">
        <b>{user.user}</b> {mine && <span class="muted">({p.you})</span>}{" "}
        {user.disabled && (
          <Mark tone="warn" icon="pause">
            {p.disabled}
          </Mark>
        )}
      </td>
      <td data-label={p.role}>
        {mine ? (
          t.roles[user.role]
        ) : (
          <select
            class="input short"
            aria-label={`${p.role}: ${user.user}`}
            value={user.role}
            onChange={({ currentTarget: chooser }) =>
              change({ role: chooser.value }).catch((error: unknown) => {
                chooser.value = user.role;
                complain(error);
              })
            }
          >
            {ROLES.map((role) => (
              <option key={role} value={role}>
                {t.roles[role]}
              </option>
            ))}
          </select>
        )}
      </td>
      <td class="nowrap muted" data-label={p.created}>
        <At at={user.created_at} seconds={false} />
      </td>
      <td class="actions">
        <Button kind="small" onClick={onPassword}>
          {p.setPassword}
        </Button>{" "}
        {!mine && (
          <>
            <Button kind="small" does={() => change({ disabled: !user.disabled })}>
              {user.disabled ? p.enable : p.disable}
            </Button>{" "}
            <Button
              kind="plain small danger"
              icon="trash"
              aria-label={`${t.common.delete} ${user.user}`}
              onClick={() =>
                ask({
                  title: p.deleteUser(user.user),
                  text: p.deleteUserText,
                  yes: t.common.delete,
                  danger: true,
                  does: async () => {
                    await remove(path);
                    await onRead();
                  },
                })
              }
            />
          </>
        )}
      </td>
    </tr>
  );
}

function TokenRow({ token, onRead }: { token: Token; onRead(): Promise<void> }) {
  const p = t.usersPage;
  return (
    <tr data-token={token.name}>
      <td class="wide breaks">
        <b>{token.name}</b> <span class="muted">{token.created_by}</span>
      </td>
      <td data-label={p.role}>{t.roles[token.role]}</td>
      <td class="nowrap muted" data-label={p.created}>
        <At at={token.created_at} seconds={false} />
      </td>
      <td class="nowrap muted" data-label={p.lastUsed}>
        {token.used_at ? <Ago at={token.used_at} /> : p.never}
      </td>
      <td class="nowrap muted" data-label={p.expires}>
        {token.expires_at ? <At at={token.expires_at} seconds={false} /> : p.never}
      </td>
      <td class="actions">
        <Button
          kind="small danger"
          onClick={() =>
            ask({
              title: p.deleteToken(token.name),
              text: p.deleteTokenText,
              yes: p.revoke,
              danger: true,
              does: async () => {
                await remove(`/api/tokens/${token.id}`);
                await onRead();
              },
            })
          }
        >
          {p.revoke}
        </Button>
      </td>
    </tr>
  );
}

function RoleField({ role, onRole }: { role: Role; onRole(role: Role): void }) {
  return (
    <Field label={t.usersPage.role} hint={t.usersPage.roleHints[role]}>
      {(id, aria) => (
        <select id={id} class="input" value={role} onChange={(event) => onRole(event.currentTarget.value as Role)} {...aria}>
          {ROLES.map((each) => (
            <option key={each} value={each}>
              {t.roles[each]}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function NameField({ value, onValue }: { value: string; onValue(value: string): void }) {
  return (
    <Field label={t.usersPage.name}>
      {(id) => (
        <input
          id={id}
          class="input"
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          maxLength={64}
          value={value}
          onInput={(event) => onValue(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

function AddUser({ onClose, onRead }: { onClose(): void; onRead(): Promise<void> }) {
  const [user, setUser] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [password, setPassword] = useState("");
  const submit = async () => {
    await post("/api/admin/users", { user: user.trim(), role, password });
    await onRead();
    onClose();
  };
  return (
    <Dialog title={t.usersPage.add} onClose={onClose}>
      <NameField value={user} onValue={setUser} />
      <RoleField role={role} onRole={setRole} />
      <Field label={t.usersPage.password} hint={t.claim.passwordHint}>
        {(id, aria) => (
          <Password id={id} name="new-password" autocomplete="new-password" value={password} onValue={setPassword} aria={aria} />
        )}
      </Field>
      <footer>
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button kind="main" does={submit} disabled={!user.trim() || !password}>
          {t.usersPage.add}
        </Button>
      </footer>
    </Dialog>
  );
}

function AddToken({ onClose, onMade }: { onClose(): void; onMade(secret: string): unknown }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [expires, setExpires] = useState("2592000");
  const submit = async () => {
    const body = { name: name.trim(), role, ...(expires ? { expires_s: Number(expires) } : {}) };
    const answer = await post<{ token: string }>("/api/tokens", body);
    await onMade(answer.token);
  };
  return (
    <Dialog title={t.usersPage.addToken} onClose={onClose}>
      <NameField value={name} onValue={setName} />
      <RoleField role={role} onRole={setRole} />
      <Field label={t.usersPage.expires}>
        {(id) => (
          <select id={id} class="input" value={expires} onChange={(event) => setExpires(event.currentTarget.value)}>
            {Object.entries(t.usersPage.expiry).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <footer>
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button kind="main" does={submit} disabled={!name.trim()}>
          {t.usersPage.addToken}
        </Button>
      </footer>
    </Dialog>
  );
}

function Secret({ secret, onClose }: { secret: string; onClose(): void }) {
  const copy = async () => {
    await navigator.clipboard.writeText(secret);
    say(t.common.copied);
  };
  return (
    <Dialog title={t.usersPage.secretTitle} onClose={onClose}>
      <p>{t.usersPage.secretText}</p>
      <div class="secret">
        <code>{secret}</code>
        {"clipboard" in navigator && <Button kind="small" icon="copy" aria-label={t.common.copy} does={copy} />}
      </div>
      <footer>
        <Button kind="main" onClick={onClose}>
          {t.common.close}
        </Button>
      </footer>
    </Dialog>
  );
}

function SetPassword({ user, onClose }: { user: string; onClose(): void }) {
  const mine = user === me.value?.user;
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const submit = async () => {
    if (mine) {
      const found = await post<Me>("/api/password", { old, new: fresh });
      if (found?.csrf) useCsrf(found.csrf);
    } else {
      await patch(`/api/admin/users/${encodeURIComponent(user)}`, { password: fresh });
    }
    say(t.usersPage.changed);
    onClose();
  };
  return (
    <Dialog title={mine ? t.usersPage.myPassword : `${t.usersPage.setPassword}: ${user}`} onClose={onClose}>
      {mine && (
        <Field label={t.usersPage.oldPassword}>
          {(id) => <Password id={id} name="password" autocomplete="current-password" value={old} onValue={setOld} />}
        </Field>
      )}
      <Field label={t.usersPage.newPassword} hint={t.claim.passwordHint}>
        {(id, aria) => (
          <Password id={id} name="new-password" autocomplete="new-password" value={fresh} onValue={setFresh} aria={aria} />
        )}
      </Field>
      <footer>
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button kind="main" does={submit} disabled={!fresh || (mine && !old)}>
          {t.common.save}
        </Button>
      </footer>
    </Dialog>
  );
}
