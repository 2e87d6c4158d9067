// Many causes, one effect.

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
