// Pages by the part of the address after `#/`.

import { signal } from "@preact/signals";

export interface Route {
  page: string;
  id: string | null;
}

function read(): Route | null {
  // Other fragments (`#main`, the link past the navigation) are no pages.
  if (location.hash && !location.hash.startsWith("#/")) return null;
  const [page = "", id = null] = location.hash.slice(2).split("/").map(decodeURIComponent);
  return { page: page || "overview", id: id || null };
}

export const route = signal<Route>(read() ?? { page: "overview", id: null });

export function href(page: string, id?: string): string {
  const path = page === "overview" ? "" : page;
  return id ? `#/${path}/${encodeURIComponent(id)}` : `#/${path}`;
}

addEventListener("hashchange", () => {
  const found = read();
  if (!found) return;
  const moved = found.page !== route.peek().page || found.id !== route.peek().id;
  route.value = found;
  if (moved) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
});
