// The tail of events: chosen by type, stopped when it is read, and of bounded length.
import { html, memo, useRef, useState } from "./ui.js";
import * as say from "./format.js";
import { Section, State, Text } from "./parts.js";

const SHOWN_MAX = 200;
const GROUPS = [
  { name: "Requests", types: ["request.stop", "request.exception"], on: true },
  { name: "Starts", types: ["request.start"], on: false },
  { name: "Attempts", types: ["attempt"], on: false },
  { name: "Costs", types: ["cost"], on: false },
  { name: "Jobs", types: ["job"], on: true },
  { name: "Breakers", types: ["breaker"], on: true },
  { name: "Restarts", types: ["restart"], on: true },
  { name: "Budgets", types: ["budget"], on: true },
  { name: "Store", types: ["store"], on: true },
  { name: "Other", types: null, on: true },
];
const NAMED = new Set(GROUPS.flatMap((its) => its.types ?? []));

export function News({ news }) {
  const [chosen, setChosen] = useState(() => new Set(GROUPS.filter((its) => its.on).map((its) => its.name)));
  const [held, setHeld] = useState(null);
  const top = useRef(0);
  top.current = news[0]?.serial ?? 0;
  const flip = (name) => {
    const next = new Set(chosen);
    if (!next.delete(name)) next.add(name);
    setChosen(next);
  };
  const groups = GROUPS.filter((its) => chosen.has(its.name));
  const isShown = ({ event }) => groups.some((its) => (its.types ? its.types.includes(event.type) : !NAMED.has(event.type)));
  const shown = (held ?? news).filter(isShown).slice(0, SHOWN_MAX);
  const missed = held ? top.current - (held[0]?.serial ?? 0) : 0;
  const aside = html`<div class="choice chips" role="group" aria-label="types of events">
      ${GROUPS.map((its) => html`<button type="button" aria-pressed=${chosen.has(its.name)} onClick=${() => flip(its.name)}>${its.name}</button>`)}
    </div>
    <button type="button" aria-pressed=${!!held} onClick=${() => setHeld(held ? null : news)}>${held ? `Resume (${say.whole(missed)} new)` : "Pause"}</button>`;
  return html`<${Section} id="events" title="Events" aside=${aside}>
    <div class="scroll tail" tabindex="0" role="log" aria-live="off" aria-label="events, the newest first">
      ${shown.length
        ? html`<ol class="news">${shown.map((its) => html`<${Line} key=${its.serial} event=${its.event} />`)}</ol>`
        : html`<p class="empty">Nothing of that kind has happened yet. Requests, jobs and restarts appear here as they happen.</p>`}
    </div>
  <//>`;
}

const QUIET = { priority: "normal", estimated: false, attempts: 1, outcome: "ok", submitter_uid: null };
const HIDDEN = new Set(["type", "at", "request_id", "job"]);
const FIRST = ["model", "provider", "actor", "budget", "what", "state", "was", "now", "outcome"];

const Line = memo(function Line({ event }) {
  const names = Object.keys(event).filter((name) => !HIDDEN.has(name) && event[name] != null && QUIET[name] !== event[name]);
  names.sort((a, b) => rank(a) - rank(b));
  const look = looks(event);
  return html`<li class=${look}>
    <time title=${say.full(event.at)}>${say.clock(event.at)}</time>
    <${State} look=${look} word=${say.plain(event.type)} />
    <span class="telling">
      ${names.map((name) => html`<span class="pair"><span class="dim">${say.plain(name).replace(/_(ms|usd|s)$/, "").replaceAll("_", " ")}</span> <${Text} value=${valueOf(name, event[name])} /></span> `)}
      ${event.job && /^job_\w+$/.test(event.job) && isJob(event) && html`<a href=${`#/jobs/${event.job}`}>…${event.job.slice(-8)}</a>`}
    </span></li>`;
});

const isJob = (event) => event.type === "job" || String(event.request_id ?? "").startsWith("req_job_");

const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

const BAD = ["open", "discarded", "expired", "gave_up", "failed", "crashed"];
const GOOD = ["ok", "completed", "closed", "recovered", "started"];

function looks(event) {
  if (event.type === "request.exception" || event.type === "gap") return "bad";
  const words = [event.outcome, event.state, event.now, event.what];
  if (words.some((word) => BAD.includes(word))) return "bad";
  if (["budget", "message", "cache", "queue.pause"].includes(event.type)) return "warn";
  if (words.some((word) => GOOD.includes(word))) return "ok";
  return event.outcome && event.outcome !== "cancelled" ? "warn" : "idle";
}

function valueOf(name, value) {
  if (name.endsWith("_ms")) return say.millis(value);
  if (name.endsWith("_usd")) return say.exactUsd(value);
  if (name.endsWith("_s")) return say.span(value);
  if (name === "share") return say.percent(value);
  if (name === "since" || name === "until") return typeof value === "number" ? say.full(value) : value;
  return typeof value === "object" ? JSON.stringify(value) : value;
}
