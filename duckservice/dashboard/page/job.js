// One job, at its own address: what it is, why it waits, each attempt in time, request and result.
import { html, useEffect, useRef, useState } from "./ui.js";
import * as say from "./format.js";
import { get, path, text } from "./api.js";
import { JobActions, isOver } from "./job_actions.js";
import { JobState, State, Text, Usd, When, plainly } from "./parts.js";

const SHOWN_MAX = 20_000; // characters; more at a click
const FRESH_MS = 1000;

export function Job({ id, now, changed }) {
  const [job, setJob] = useState(null);
  const [attempts, setAttempts] = useState([]);
  const [bodies, setBodies] = useState({});
  const [error, setError] = useState("");
  const [gone, setGone] = useState(false);
  const heading = useRef(null);

  const load = async () => {
    try {
      const [its, tried] = await Promise.all([get(path("jobs", id)), get(path("jobs", id, "attempts"))]);
      setJob(its);
      setAttempts(tried.attempts);
      setError("");
    } catch (problem) {
      setError(problem.message);
      setGone(problem.status === 404); // not to be asked for again and again
    }
  };
  useEffect(() => {
    heading.current.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    text(path("jobs", id, "request")).then((request) => setBodies((all) => ({ ...all, request })),
      (problem) => setBodies((all) => ({ ...all, notAsked: `Not loaded: ${problem.message}` })));
    load();
  }, [id]);
  const over = job !== null && isOver(job.state);
  useEffect(() => {
    if (gone || (over && !error)) return undefined;
    const timer = setTimeout(() => document.hidden || load(), FRESH_MS);
    return () => clearTimeout(timer);
  }, [changed.at, over, gone]);
  useEffect(() => {
    if (job?.state === "completed") text(path("jobs", id, "result")).then((result) => setBodies((all) => ({ ...all, result })), () => {});
    else setBodies(({ request }) => ({ request }));
  }, [id, job?.state]);

  return html`<main class="job-page">
    <p><a href="#/jobs">← All jobs</a></p>
    <section class="panel" id="job">
      <header class="panel-head"><h2 tabindex="-1" ref=${heading}>Job <code><${Text} value=${id} /></code></h2>
        ${job && html`<${JobState} state=${job.state} /> <small class="dim">${plainly(job.state)}</small><span class="grow"></span><${JobActions} job=${job} again=${load} />`}</header>
      ${error && html`<p class="empty"><${State} look="bad" word="Not loaded" /> <${Text} value=${error} /></p>`}
      ${job && html`<${Waits} job=${job} now=${now} /><${Fields} job=${job} now=${now} />`}
    </section>
    ${job && html`<section class="panel" aria-labelledby="timeline-title"><header class="panel-head"><h2 id="timeline-title">Timeline</h2></header><${Timeline} job=${job} attempts=${attempts} now=${now} /></section>`}
    ${job?.errors?.length > 0 && html`<section class="panel" aria-labelledby="errors-title"><header class="panel-head"><h2 id="errors-title">Errors</h2></header>
      <ol class="errors">${job.errors.map((its) => html`<li><${Failure} its=${its} now=${now} /></li>`)}</ol></section>`}
    ${job && html`<div class="bodies">
      <${Body} id="request" title="Request" body=${bodies.request} speech=${asked} empty=${bodies.notAsked} />
      <${Body} id="result" title="Result" body=${bodies.result} speech=${answered} empty=${job?.state === "completed" ? "Loading." : "None: it is there once the job is completed."} />
    </div>`}
  </main>`;
}

function Waits({ job, now }) {
  if (!job.wait_reason) return null;
  return html`<p class="waits"><b>It waits:</b> <${Text} value=${reason(job.wait_reason)} />
    ${job.wait_until ? html`, until ${say.clock(job.wait_until)} (<${When} at=${job.wait_until} now=${now} />)` : ""}.</p>`;
}

const REASONS = {
  queued: "for its turn in the queue", not_before: "it is not to begin before its time", retry_backoff: "a pause before the next attempt",
  held: "it is held until somebody releases it", paused: "the queue is paused", rate_limited: "for the rate limit of",
  breaker_open: "for the breaker of", concurrency: "for a free place at", budget: "for the budget",
};

function reason(text) {
  const [word, ...rest] = text.split(":");
  return [REASONS[word] ?? word, ...rest].join(" ");
}

function Fields({ job, now }) {
  const tags = Object.entries(job.tags ?? {});
  const usage = job.usage;
  const its = [
    ["Kind", html`<${Text} value=${job.kind} />`],
    ["Model", html`<${Text} value=${job.model} />${job.served_model && job.served_model !== job.model && html` served as <${Text} value=${job.served_model} />`}`],
    ["Provider", html`<${Text} value=${job.provider} />`],
    ["Priority", job.priority],
    ["Attempts", `${job.attempt} of ${job.max_attempts}`],
    ["Tokens", usage ? `${say.whole(usage.prompt_tokens)} in, ${say.whole(usage.completion_tokens ?? 0)} out` : say.NONE],
    ["Cost", job.cost_known ? html`${say.exactUsd(job.cost_usd)}${job.cost_estimated ? " (estimated)" : ""}${job.maybe_billed ? " (an attempt was lost, and may be billed)" : ""}` : "not known"],
    ["Most it may cost", job.max_cost_usd ? say.exactUsd(job.max_cost_usd) : say.NONE],
    ["Created", html`<${When} at=${job.created_at} now=${now} />`],
    ["Begun", html`<${When} at=${job.started_at} now=${now} />`],
    ["Ended", html`<${When} at=${job.finished_at} now=${now} />`],
    ["Not before", html`<${When} at=${job.not_before} now=${now} />`],
    ["Deadline", html`<${When} at=${job.deadline} now=${now} />`],
    ["When interrupted", job.on_interrupt],
    ["Submitted by", job.submitter ? `uid ${job.submitter.uid}, pid ${job.submitter.pid}` : say.NONE],
    ["Batch", job.batch ? html`<${Text} value=${job.batch} />, line ${job.line}` : say.NONE],
    ["Tags", tags.length ? html`<span class="tags">${tags.map(([name, value]) => html`<span class="tag"><${Text} value=${`${name}=${value}`} /></span>`)}</span>` : say.NONE],
  ];
  return html`<dl class="fields">${its.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Waiting and attempts as bars on one line of time, then in words. */
function Timeline({ job, attempts, now }) {
  const end = job.finished_at ?? Math.max(now, job.created_at + 0.001);
  const length = Math.max(end - job.created_at, 0.001);
  const place = (from, until) => ({
    insetInlineStart: `${((from - job.created_at) / length) * 100}%`,
    inlineSize: `${Math.max(0.4, ((until - from) / length) * 100)}%`,
  });
  return html`<ol class="timeline">
    <li><span class="at"><${Clock} at=${job.created_at} /></span><span class="what">Submitted</span></li>
    ${attempts.map((its) => {
      const until = its.ended_at ?? end;
      const look = its.ended_at == null ? "busy" : its.outcome === "ok" ? "ok" : "bad";
      return html`<li key=${its.id}><span class="at"><${Clock} at=${its.began_at} /></span>
        <span class="what"><b>Attempt ${its.number}</b> at <${Text} value=${its.provider} /> (<${Text} value=${its.model} />): <${State} look=${look}
          word=${its.ended_at == null ? (its.state === "lost" ? "lost" : "running") : say.plain(its.outcome ?? its.state).replaceAll("_", " ")} />, ${say.millis((until - its.began_at) * 1000)}, <${Usd} value=${its.cost_usd} />${its.estimated ? " estimated" : ""}
          <small class="dim why">chosen: <${Text} value=${its.why} /></small></span>
        <span class="track"><span class=${`stretch ${look}`} style=${place(its.began_at, until)}></span></span></li>`;
    })}
    ${job.finished_at
      ? html`<li><span class="at"><${Clock} at=${job.finished_at} /></span><span class="what"><${JobState} state=${job.state} /> after ${say.millis(length * 1000)}</span></li>`
      : html`<li><span class="at">now</span><span class="what"><${JobState} state=${job.state} /> for ${say.span(now - job.created_at)} since it was submitted</span></li>`}
  </ol>`;
}

const Clock = ({ at }) => html`<time datetime=${new Date(at * 1000).toISOString()} title=${say.full(at)}>${say.clock(at)}</time>`;

function Failure({ its, now }) {
  if (typeof its !== "object" || its === null) return html`<${Text} value=${its} />`;
  const { code, message, at, ...more } = its;
  return html`<b><${Text} value=${code} /></b> ${at && html`<span class="dim"><${When} at=${at} now=${now} /></span>`} <${Text} value=${message} />
    ${Object.entries(more).filter(([, value]) => value != null).map(([name, value]) => html` <small class="dim">${say.plain(name)}: <${Text} value=${typeof value === "object" ? JSON.stringify(value) : value} /></small>`)}`;
}

function Body({ id, title, body, speech, empty = "Loading." }) {
  const [all, setAll] = useState(false);
  const its = body === undefined ? null : parsed(body);
  const lines = its === null ? [] : speech(its);
  const pretty = body === undefined ? "" : its === null ? body : JSON.stringify(its, null, 2);
  const shown = all ? pretty : pretty.slice(0, SHOWN_MAX);
  return html`<section class="panel" id=${id} aria-labelledby=${`${id}-title`}><header class="panel-head"><h2 id=${`${id}-title`}>${title}</h2></header>
    ${body === undefined
      ? html`<p class="empty">${empty}</p>`
      : html`${lines.map(([who, words]) => html`<div class="speech"><b><${Text} value=${who} /></b><div class="words"><${Text} value=${words.slice(0, SHOWN_MAX)} />${words.length > SHOWN_MAX ? " …" : ""}</div></div>`)}
          <details open=${lines.length === 0}><summary>As JSON, ${say.bytes(new Blob([body]).size)}</summary><pre tabindex="0"><${Text} value=${shown} /></pre>
          ${shown.length < pretty.length && html`<button type="button" onClick=${() => setAll(true)}>Show all ${say.whole(pretty.length)} characters</button>`}</details>`}
  </section>`;
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

function asked(its) {
  const messages = Array.isArray(its.messages) ? its.messages : its.prompt ? [{ role: "prompt", content: its.prompt }] : its.input ? [{ role: "input", content: its.input }] : [];
  return messages.map((message) => [String(message?.role ?? ""), words(message?.content)]).filter(([, said]) => said);
}

function answered(its) {
  const choices = Array.isArray(its.choices) ? its.choices : [];
  return choices.map((choice) => [String(choice?.message?.role ?? "assistant"), words(choice?.message?.content)]).filter(([, said]) => said);
}

function words(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part === "string" ? part : typeof part?.text === "string" ? part.text : `[${part?.type ?? "part"}]`)).join("\n");
}
