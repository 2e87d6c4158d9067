// The machine in four gauges: what it is now, what it has been lately, when it will be full.

import { bytes, percent } from "../core/format.ts";
import { t } from "../core/strings.ts";
import { Bar, type Tone } from "../parts/basics.tsx";
import { Spark } from "../parts/chart.tsx";
import { dataDisk, history, historyTick, host, sampleAgeS } from "./data.ts";
import { BAD_PERCENT, WARN_PERCENT } from "./limits.ts";

const GAP_S = 5;
const OLD_S = 10;

interface GaugeProps {
  name: string;
  percent: number | null;
  note: string;
  /** Beside the name. */
  aside?: string;
  of: "cpu" | "memory" | "disk" | "gpu";
  warn?: number;
  bad?: number;
}

export function Gauges() {
  const view = host.value;
  if (!view) return <p class="calm">{t.ops.gauges.silent}</p>;
  const { cpu, memory, gpus, temperatures } = view.sample;
  const disk = dataDisk(view.sample);
  const card = gpus?.cards[0];
  const hottest = (temperatures ?? []).reduce<number | null>((most, each) => Math.max(most ?? 0, each.celsius), null);
  const g = t.ops.gauges;
  const full = disk?.full_in_s != null ? g.full(disk.full_in_s) : g.notFilling;
  return (
    <div class="gauges">
      <Gauge
        name={g.disk}
        of="disk"
        percent={disk?.used_percent ?? null}
        warn={WARN_PERCENT}
        bad={BAD_PERCENT}
        aside={disk ? full : undefined}
        note={disk ? g.free(disk.free_bytes) : ""}
      />
      <Gauge
        name={g.memory}
        of="memory"
        percent={memory?.used_percent ?? null}
        warn={WARN_PERCENT}
        bad={BAD_PERCENT}
        note={memory ? g.available(memory.available_bytes) : ""}
      />
      <Gauge
        name={g.cpu}
        of="cpu"
        percent={cpu?.busy_percent ?? null}
        note={cpu ? `${g.load(cpu.load_1m, cpu.cores)}${hottest == null ? "" : `, ${g.degrees(hottest)}`}` : ""}
      />
      {card ? (
        <Gauge
          name={g.gpu}
          of="gpu"
          percent={card.util_percent}
          note={[
            card.memory_used_bytes != null ? bytes(card.memory_used_bytes) : "",
            card.temperature_c != null ? g.degrees(card.temperature_c) : "",
          ]
            .filter(Boolean)
            .join(", ")}
        />
      ) : (
        <div class="gauge" data-gauge="gpu">
          <div class="name">{g.gpu}</div>
          <div class="value muted">–</div>
          <p class="note">{gpus?.note || g.noGpu}</p>
        </div>
      )}
      {sampleAgeS(view) > OLD_S && <p class="note muted small">{g.old(sampleAgeS(view))}</p>}
    </div>
  );
}

function Gauge(props: GaugeProps) {
  const { percent: value } = props;
  const tone: Tone | undefined =
    value == null ? "idle" : props.bad && value >= props.bad ? "bad" : props.warn && value >= props.warn ? "warn" : undefined;
  return (
    <div class="gauge" data-gauge={props.of}>
      <div class="name">
        <span>{props.name}</span>
        {props.aside && <span class="cut">{props.aside}</span>}
      </div>
      <div class="value">{percent(value)}</div>
      <Bar share={(value ?? 0) / 100} tone={tone} label={props.name} text={percent(value)} />
      <Spark
        data={() => [history.time, history[props.of]]}
        tick={historyTick}
        label={t.ops.gauges.history(props.name)}
        height={34}
        max={100}
        gap_s={GAP_S}
      />
      <p class="note">{props.note}</p>
    </div>
  );
}

