// Alerts: what is wrong, what was; acknowledge and silence.

import { useState } from "preact/hooks";
import { post } from "../../core/api.ts";
import { t } from "../../core/strings.ts";
import { Ago, At, Button, Empty, Field, Mark, Panel, type Tone } from "../../parts/basics.tsx";
import { Dialog } from "../../parts/dialog.tsx";
import { acknowledge } from "../attention.tsx";
import { doc, host, said } from "../data.ts";
import type { Alert, AlertList } from "../model.ts";

const TONES: Record<Alert["severity"], Tone> = { info: "idle", warning: "warn", critical: "bad" };

export function AlertsPage() {
  const [silencing, setSilencing] = useState<Alert | null>(null);
  const found = doc.value?.alerts;
  return (
    <>
      <div class="title">
        <h1 class="grow">{t.ops.pages.alerts}</h1>
      </div>
      <Panel title={t.alertsPage.raised}>
        {found && !found.raised.length ? (
          <Empty icon="ok" title={t.alertsPage.none} />
        ) : (
          <table class="table cards">
            <tbody>{found?.raised.map((alert) => <Row key={alert.alert} alert={alert} onSilence={() => setSilencing(alert)} />)}</tbody>
          </table>
        )}
      </Panel>
      <Panel title={t.alertsPage.cleared}>
        {found?.cleared.length ? (
          <table class="table cards">
            <tbody>
              {found.cleared.map((alert) => (
                <tr key={alert.alert}>
                  <td>
                    <Mark tone="ok">{t.alertsPage.severities[alert.severity]}</Mark>
                  </td>
                  <td class="wide breaks">{alert.message}</td>
                  <td class="nowrap muted">
                    <Ago at={alert.since} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p class="calm">{t.alertsPage.noneCleared}</p>
        )}
      </Panel>
      <Silences />
      {silencing && <Silence alert={silencing} onClose={() => setSilencing(null)} />}
    </>
  );
}

/** Every answer of these routes is the new state. */
async function order(alert: string, verb: "silence" | "unsilence", body?: object): Promise<void> {
  said.value = await post<AlertList>(`/api/admin/alerts/${encodeURIComponent(alert)}/${verb}`, body);
}

function Row({ alert, onSilence }: { alert: Alert; onSilence(): void }) {
  const active = host.value?.alerts.find((each) => each.alert === alert.alert);
  const acknowledged = active?.acknowledged || said.value.seen.some((each) => each.alert === alert.alert);
  const mutedBy = active?.muted_by;
  return (
    <tr data-alert={alert.alert}>
      <td>
        <Mark tone={TONES[alert.severity]}>{t.alertsPage.severities[alert.severity]}</Mark>
      </td>
      <td class="wide">
        <p class="breaks">{alert.message}</p>
        <p class="muted small mono breaks">{alert.alert}</p>
        {mutedBy && <p class="muted small">{t.alertsPage.silenced(mutedBy)}</p>}
      </td>
      <td class="nowrap muted">
        <Ago at={alert.since} />
      </td>
      <td class="actions">
        {acknowledged ? (
          <Mark tone="ok" icon="check">
            {t.alertsPage.acknowledged}
          </Mark>
        ) : (
          <Button kind="small" does={() => acknowledge(alert.alert)}>
            {t.alertsPage.acknowledge}
          </Button>
        )}{" "}
        {mutedBy ? (
          <Button kind="small" does={() => order(alert.alert, "unsilence")}>
            {t.alertsPage.unsilence}
          </Button>
        ) : (
          <Button kind="small" onClick={onSilence}>
            {t.alertsPage.silence}
          </Button>
        )}
      </td>
    </tr>
  );
}

function Silences() {
  const { silences } = said.value;
  if (!silences.length) return null;
  return (
    <Panel title={t.alertsPage.silences}>
      <table class="table cards">
        <tbody>
          {silences.map((each) => (
            <tr key={each.id}>
              <td class="nowrap mono">
                {each.rule} {each.device}
              </td>
              <td class="wide breaks">
                {each.reason} <span class="muted">{each.author}</span>
              </td>
              <td class="nowrap muted">
                {t.alertsPage.until} <At at={each.until} seconds={false} />
              </td>
              <td class="actions">
                <Button kind="small" does={() => order(each.id, "unsilence")}>
                  {t.alertsPage.unsilence}
                </Button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

function Silence({ alert, onClose }: { alert: Alert; onClose(): void }) {
  const [reason, setReason] = useState("");
  const [for_s, setFor] = useState("3600");
  const submit = async () => {
    await order(alert.alert, "silence", { for_s: Number(for_s), reason: reason.trim() });
    onClose();
  };
  return (
    <Dialog title={t.alertsPage.silenceTitle(alert.alert)} onClose={onClose}>
      <p>{t.alertsPage.silenceText}</p>
      <Field label={t.alertsPage.duration}>
        {(id) => (
          <select id={id} class="input" value={for_s} onChange={(event) => setFor(event.currentTarget.value)}>
            {Object.entries(t.alertsPage.durations).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label={t.control.reason}>
        {(id) => (
          <input id={id} class="input" maxLength={200} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        )}
      </Field>
      <footer>
        <Button onClick={onClose}>{t.common.cancel}</Button>
        <Button kind="main" does={submit} disabled={!reason.trim()}>
          {t.alertsPage.silence}
        </Button>
      </footer>
    </Dialog>
  );
}
