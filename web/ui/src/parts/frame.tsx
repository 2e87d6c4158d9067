// The frame of the two UIs: brand, way between them, freshness, colours, account.

import { render, type ComponentChildren, type JSX } from "preact";
import { signal } from "@preact/signals";
import { get, post, Problem, useCsrf, whenLoggedOut } from "../core/api.ts";
import type { Me, Role } from "../core/model.ts";
import { t } from "../core/strings.ts";
import { Button, FreshnessBadge, Notice, Toasts } from "./basics.tsx";
import { Questions } from "./dialog.tsx";
import { Logo, type IconName } from "./icons.tsx";

export const me = signal<Me | null>(null);

const RANKS: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

export function may(role: Role): boolean {
  return me.value != null && RANKS[me.value.role] >= RANKS[role];
}

const ASK_AGAIN_MS = 2_000;

/** Who is here, asked until the box says so. Goes to the login page, with the way back, when nobody is. */
export async function enter(): Promise<Me | null> {
  whenLoggedOut(toLogin);
  for (;;) {
    try {
      const found = await get<Me>("/api/me", { anonymous: true });
      useCsrf(found.csrf);
      me.value = found;
      return found;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) {
        toLogin();
        return null;
      }
      draw(
        <main class="card-page">
          <Notice tone="warn">{error.message}</Notice>
        </main>,
      );
    }
    await new Promise((again) => setTimeout(again, ASK_AGAIN_MS));
  }
}

let leaving = false;

function toLogin(): void {
  if (leaving) return;
  leaving = true;
  const here = location.pathname + location.hash;
  location.replace(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

async function logout(): Promise<void> {
  leaving = true; // the feed, which ends with the session, must not lead elsewhere
  try {
    await post("/api/logout");
  } catch (error) {
    leaving = false;
    throw error;
  }
  location.replace("/login");
}

// ---- Colours -------------------------------------------------------------------------------------------------------

type Theme = "auto" | "light" | "dark";
const THEMES: Theme[] = ["auto", "light", "dark"];
const ICONS: Record<Theme, IconName> = { auto: "half", light: "sun", dark: "moon" };
const theme = signal<Theme>("auto");

/** The colours that the viewer chose on this device. Call before the first drawing. */
export function applyTheme(chosen?: Theme): void {
  const stored = chosen ?? (localStorage.getItem("theme") as Theme | null) ?? "auto";
  theme.value = THEMES.includes(stored) ? stored : "auto";
  if (chosen) localStorage.setItem("theme", chosen);
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

function ThemeButton() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
  const label = `${t.nav.theme}. ${t.nav.themes[theme.value]}`;
  return (
    <Button kind="plain" icon={ICONS[theme.value]} title={label} aria-label={label} onClick={() => applyTheme(next)} />
  );
}

// ---- Top bar -------------------------------------------------------------------------------------------------------

export function Frame(props: { page: "videos" | "operations"; children: ComponentChildren }) {
  const who = me.value;
  return (
    <>
      <a class="skip" href="#main">
        {t.common.skip}
      </a>
      <header class="top">
        <a class="brand" href="/" aria-label={t.product}>
          <Logo />
          <span class="word">{t.product}</span>
        </a>
        <nav aria-label={t.nav.menu}>
          <a href="/" aria-current={props.page === "videos" ? "page" : undefined}>
            {t.nav.videos}
          </a>
          {may("operator") && (
            <a href="/admin" aria-current={props.page === "operations" ? "page" : undefined}>
              {t.nav.operations}
            </a>
          )}
        </nav>
        <div class="right">
          <FreshnessBadge />
          {who && <span class="who cut">{t.nav.account(who.user, who.role)}</span>}
          <ThemeButton />
          <Button kind="plain" icon="out" title={t.nav.logout} aria-label={t.nav.logout} does={logout} />
        </div>
      </header>
      {props.children}
      <Questions />
      <Toasts />
    </>
  );
}

/** Draw the page. */
export function draw(page: JSX.Element): void {
  render(page, document.getElementById("app")!);
}
