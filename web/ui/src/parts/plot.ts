// uPlot as the charts use it; fetched only by pages that draw one.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

function colour(name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** A filled line without axes, cursor or legend. `max`: top of the scale; else what the data needs. */
export function line(place: HTMLElement, height: number, max?: number): uPlot {
  const options: uPlot.Options = {
    width: Math.max(1, place.clientWidth),
    height,
    padding: [2, 0, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: true }, y: { range: (_, __, top) => [0, max ?? Math.max(1, top * 1.1)] } },
    series: [
      {},
      {
        width: 1.5,
        stroke: () => colour("--accent"),
        fill: () => colour("--accent-tint"),
        points: { show: false },
      },
    ],
  };
  return new uPlot(options, [[], []], place);
}
