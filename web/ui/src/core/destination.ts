// Where to go after a login.

/** The address that `next` names, when it is one of `origin`; else its first page. Whole: a path may begin with `//`. */
export function destination(next: string | null, origin: string): string {
  try {
    const url = new URL(next ?? "/", origin);
    if (url.origin === origin && /^https?:$/.test(url.protocol)) return url.href;
  } catch {
    // not an address
  }
  return `${origin}/`;
}
