// Small charts over real time: a gap in the data is a gap in the line.

import { useEffect, useRef } from "preact/hooks";
import type { Signal } from "@preact/signals";
import type uPlot from "uplot";
import { painted } from "../core/soon.ts";

interface Props {
  /** Seconds since 1970, ascending, and one value for each; NaN where nothing was told. */
  data(): [number[], number[]];
  tick: Signal<number>;
  label: string;
  height: number;
  max?: number;
  /** Seconds between two values beyond which the line is broken. */
  gap_s: number;
}

/** A line without axes. uPlot is fetched for the first one, after the page around it is painted. */
export function Spark({ data, tick, label, height, max, gap_s }: Props) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current!;
    let chart: uPlot | null = null;
    let alive = true;
    const draw = () => chart?.setData(withGaps(data(), gap_s) as uPlot.AlignedData);
    const stopTicks = tick.subscribe(draw);
    const resize = new ResizeObserver(() => chart?.setSize({ width: element.clientWidth, height }));
    const begin = async () => {
      await painted();
      const { line } = await import("./plot.ts");
      if (!alive) return;
      chart = line(element, height, max);
      draw();
      resize.observe(element);
    };
    void begin();
    const schemes = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => chart?.redraw(true, false);
    schemes.addEventListener("change", redraw);
    return () => {
      alive = false;
      stopTicks();
      resize.disconnect();
      schemes.removeEventListener("change", redraw);
      chart?.destroy();
    };
  }, []);
  return <div class="chart" ref={place} role="img" aria-label={label} />;
}

function withGaps([times, values]: [number[], number[]], gap_s: number): [number[], (number | null)[]] {
  const xs: number[] = [];
  const ys: (number | null)[] = [];
  times.forEach((time, index) => {
    const before = times[index - 1];
    if (before != null && time - before > gap_s) {
      xs.push(before + gap_s);
      ys.push(null);
    }
    xs.push(time);
    ys.push(Number.isNaN(values[index]) ? null : values[index]!);
  });
  return [xs, ys];
}
