// When: many causes, one effect; and what may wait until the page is painted.

/** What runs `run` once, `ms` after the first of the calls that come until then. */
export function soon(run: () => unknown, ms: number): () => void {
  let timer: ReturnType<typeof setTimeout> | null = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      run();
    }, ms);
  };
}

const UNPAINTED_MS = 100;

/** Resolves at the frame after the one that shows what is drawn now, or soon when none is shown (in the background). */
export function painted(): Promise<void> {
  return new Promise((done) => {
    setTimeout(done, UNPAINTED_MS);
    requestAnimationFrame(() => requestAnimationFrame(() => done()));
  });
}
