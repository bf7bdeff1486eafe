// The figures at the top.
import { html } from "./ui.js";
import * as say from "./format.js";
import { recent } from "./recent.js";

export function Tiles({ live }) {
  const { status, queue, costs, points, at } = live;
  if (!status) return html`<section class="tiles" aria-label="figures">${Array.from({ length: 10 }, () => html`<div class="tile"></div>`)}</section>`;
  const its = recent(points, at, 60);
  const cache = status.cache;
  const asked = cache ? cache.hits + cache.misses : 0;
  const store = status.store;
  return html`<section class="tiles" aria-label="figures">
    <${Tile} id="rate" name="Requests" value=${say.rate(its.perMinute)} unit="/ min" below=${`${say.whole(status.requests.total)} since the start`} />
    <${Tile} id="tokens" name="Tokens" value=${say.compact(its.tokensPerMinute)} unit="/ min" below="in and out, last minute" />
    <${Tile} id="p50" name="Latency p50" value=${say.millis(its.p50)} below="median, last minute"
      title="The median of the two-second medians of the last minute, by number of requests" />
    <${Tile} id="p95" name="Latency p95" value=${say.millis(its.p95)} below="last minute"
      title="The median of the two-second 95th percentiles of the last minute, by number of requests" />
    <${Tile} id="spend" name="Spend today" value=${say.usd(costs?.total.cost_usd)} title=${say.exactUsd(costs?.total.cost_usd)}
      below=${its.usdPerHour == null ? "" : `${say.usd(its.usdPerHour.toFixed(4))} an hour now`} />
    <${Tile} id="queued" name="Queued" value=${say.whole(queue?.waiting)} look=${queue?.paused ? "warn" : ""}
      below=${queue?.paused ? "▲ the queue is paused" : queue?.waiting ? `oldest ${say.span(queue.oldest_wait_s)}` : "nobody waits"} />
    <${Tile} id="flight" name="In flight" value=${say.whole(status.requests.in_flight)} below=${`${say.whole(queue?.running)} at providers`} />
    <${Tile} id="failures" name="Failures" value=${say.rate(its.failedPerMinute)} unit="/ min" look=${its.failedShare > 0.05 ? "bad" : ""}
      below=${its.failedShare == null ? "no requests" : `${its.failedShare > 0.05 ? "✕ " : ""}${say.percent(its.failedShare)} of requests`} />
    <${Tile} id="cache" name="Cache hits" value=${asked ? say.percent(cache.hits / asked) : say.NONE}
      below=${asked ? `${say.whole(cache.hits)} of ${say.whole(asked)}` : "cache off or unused"} />
    <${Tile} id="store" name="Store" value=${store.ok ? (store.full ? "full" : "ok") : "failing"} look=${store.ok && !store.full ? "" : "bad"}
      title=${store.detail ? say.plain(store.detail) : store.path && `${say.plain(store.path)}: ${say.bytes(store.bytes)} on the disk, with its log and free pages`}
      below=${store.ok && !store.full ? `${say.compact(store.jobs)} jobs, ${store.used_bytes == null ? "in memory" : say.bytes(store.used_bytes)}` : `✕ ${store.detail ? say.plain(store.detail) : "no room"}`} />
  </section>`;
}

function Tile({ id, name, value, unit, below, look = "", title }) {
  return html`<div class=${`tile ${look}`} id=${`tile-${id}`} title=${title}>
    <div class="tile-name">${name}</div>
    <div class="tile-value"><span>${value}</span>${unit && html` <small>${unit}</small>`}</div>
    <div class="tile-below">${below || "\u00a0"}</div>
  </div>`;
}
