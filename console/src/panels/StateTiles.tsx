/** Whether the flow table and the public ports last: the second row of tiles. */

import { href } from "../state/route";
import { stats } from "../state/stats";
import { alarms, status } from "../state/status";
import { bytes, count, percent, plural, short } from "../ui/format";
import { Tile } from "../ui/Tile";

const PRESSURE = { ok: "", high: "warn", full: "bad" };

export function StateTiles() {
  const table = () => stats()?.table;
  const nat = () => stats()?.nat;
  // A daemon that doesn't say is not one with nothing to say.
  const told = (n: number | undefined) => (n === undefined ? "–" : count(n));
  const halfShare = () => {
    const t = table();
    if (!t) return "not told by this daemon";
    return t.flows > 0 ? `${percent((100 * t.half_open) / t.flows)} of the flows` : "of the flows";
  };
  const turnedAway = () => {
    const t = table();
    if (!t) return "not told by this daemon";
    const parts = [
      t.refused > 0 ? `${short(t.refused)} refused` : "",
      t.source_limited > 0 ? `${short(t.source_limited)} over a source's limit` : "",
      t.busy > 0 ? `${short(t.busy)} at a busy lock` : "",
    ].filter(Boolean);
    return parts.length === 0 ? "no flow was turned away" : parts.join(", ");
  };
  const ports = () => {
    const n = nat();
    if (!n) return "not told by this daemon";
    return n.failures === 0 ? "no mapping failed" : `${plural(n.failures, "mapping")} failed in all`;
  };

  return (
    <>
      <Tile
        id="tile-table"
        title="Flow table"
        tip={turnedAway()}
        kind={PRESSURE[table()?.pressure ?? "ok"]}
        value={table() ? percent(table()!.used_percent) : "–"}
        sub={table() ? `of ${short(table()!.capacity)} places${table()!.pressure === "ok" ? "" : `: pressure ${table()!.pressure}`}` : "not told by this daemon"}
        {...(table() ? { meter: table()!.used_percent } : {})}
        href={href("flows")}
      />
      <Tile
        id="tile-half"
        title="Half-open"
        tip="Flows that have had no answer yet. Established flows are never given up for them."
        value={told(table()?.half_open)}
        sub={halfShare()}
        href={href("flows", { filter: "state in (syn-sent, syn-received, new)" })}
      />
      <Tile
        id="tile-evicted"
        title="Evicted"
        tip="Half-open flows that made room for newer ones, since the tables were made"
        kind={(table()?.evicted ?? 0) > 0 ? "warn" : ""}
        value={told(table()?.evicted)}
        sub={table()?.evicted ? `${short(table()!.evicted_packets)} packets, ${bytes(table()!.evicted_bytes)}` : turnedAway()}
      />
      <Tile id="tile-nat" title="NAT mappings" value={told(nat()?.mappings_live)} sub="live translations" href={href("nat/mappings")} />
      <Tile
        id="tile-ports"
        title="Ports exhausted"
        tip="Public addresses that have no port left, by protocol"
        kind={(nat()?.exhausted_pools ?? 0) > 0 ? "bad" : (nat()?.failures ?? 0) > 0 ? "warn" : ""}
        value={told(nat()?.exhausted_pools)}
        sub={ports()}
        href={href("nat/pools")}
      />
      <Tile
        id="tile-alarms"
        title="Alarms"
        kind={`alarm-tile ${alarms().length === 0 ? "" : alarms()[0]!.severity === "error" ? "bad" : "warn"}`}
        value={status()?.alarms === undefined ? "–" : alarms().length === 0 ? "none" : count(alarms().length)}
        sub={alarms()[0]?.code ?? "nothing wrong"}
        href={href("status")}
      />
    </>
  );
}
