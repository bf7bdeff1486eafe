// Figures of the last minutes, out of the points that come every two seconds.

const GAP_S = 8; // longer without a point: nobody knows what was then

/** What the points since *now* minus *seconds* say together. */
export function recent(points, now, seconds) {
  const these = points.filter((its) => its.at + its.seconds > now - seconds);
  const time = sum(these, (its) => its.seconds);
  const ended = sum(these, (its) => its.ok + its.failed + its.cancelled);
  const failed = sum(these, (its) => its.failed);
  return {
    perMinute: time ? (ended / time) * 60 : null,
    failedPerMinute: time ? (failed / time) * 60 : null,
    failedShare: ended ? failed / ended : null,
    usdPerHour: time ? (sum(these, (its) => Number(its.cost_usd)) / time) * 3600 : null,
    tokensPerMinute: time ? (sum(these, (its) => its.tokens.input + its.tokens.output) / time) * 60 : null,
    p50: middle(these, "p50"),
    p95: middle(these, "p95"),
  };
}

/** The points as columns for charts, *width* seconds in each row, with empty rows where nothing is known. */
export function columns(points, from, width) {
  const rows = [];
  let slot = null;
  let these = [];
  const close = () => {
    if (these.length) rows.push(row(slot, these, width));
  };
  for (const point of points) {
    if (point.at < from) continue;
    const its = (Math.floor(point.at / width) + 1) * width;
    if (its !== slot) {
      close();
      if (slot !== null && its - slot > Math.max(GAP_S, width)) rows.push({ at: slot + width });
      slot = its;
      these = [];
    }
    these.push(point);
  }
  close();
  const column = (name) => rows.map((its) => its[name] ?? null);
  return { at: column("at"), column };
}

function row(at, these, width) {
  const time = sum(these, (its) => its.seconds);
  const perMinute = (name) => (time ? (sum(these, (its) => its[name]) / time) * 60 : null);
  const last = these[these.length - 1];
  return {
    at: at - width / 2,
    ok: perMinute("ok"),
    failed: perMinute("failed"),
    cancelled: perMinute("cancelled"),
    p50: middle(these, "p50"),
    p95: middle(these, "p95"),
    usd: time ? (sum(these, (its) => Number(its.cost_usd)) / time) * 3600 : null,
    queued: last.queued ? last.queued.high + last.queued.normal + last.queued.low : null,
    running: last.in_flight,
  };
}

/** The median of the points' figures, each counting as often as it had requests. */
function middle(points, name) {
  const known = points
    .filter((its) => its.duration_ms)
    .map((its) => [its.duration_ms[name], Math.max(1, its.ok + its.failed)])
    .sort((a, b) => a[0] - b[0]);
  let left = sum(known, (its) => its[1]) / 2;
  for (const [value, weight] of known) {
    left -= weight;
    if (left <= 0) return value;
  }
  return null;
}

function sum(items, value) {
  let total = 0;
  for (const item of items) total += value(item);
  return total;
}
