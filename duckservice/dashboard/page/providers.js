// The providers: breaker, limits, latency, errors, spend, keys; and what can be done to them.
import { html, useState } from "./ui.js";
import * as say from "./format.js";
import { path } from "./api.js";
import { Act, Bar, Section, State, Text, Usd } from "./parts.js";

const BREAKERS = {
  closed: ["ok", "closed"], open: ["bad", "open"], half_open: ["busy", "half open"],
  disabled: ["off", "disabled"],
};
const SHORT = { requests: "req", tokens: "tok" };
const KEYS = {
  ok: ["ok", "ok"], limited: ["warn", "limited"], used_up: ["bad", "used up"],
  refused: ["bad", "refused"], forbidden: ["bad", "forbidden"],
};

export function Providers({ providers }) {
  const all = providers?.providers ?? [];
  return html`<${Section} id="providers" title="Providers" aside=${html`<span class="dim">figures of the last 15 min</span>`}>
    ${all.length
      ? html`<div class="scroll"><table class="cards">
          <thead><tr>
            <th scope="col">Provider</th><th scope="col">Breaker</th><th scope="col">In flight</th><th scope="col">Limits used</th>
            <th scope="col" class="num">p50</th><th scope="col" class="num">p99</th><th scope="col" class="num">Success</th>
            <th scope="col" class="num">Failures</th><th scope="col" class="num">Spend</th><th scope="col">Keys</th>
            <th scope="col"><span class="unseen">Actions</span></th>
          </tr></thead>
          ${all.map((its) => html`<${Provider} key=${its.name} its=${its} />`)}
        </table></div>`
      : html`<p class="empty">No provider is configured. <code>duck config show</code> says what is.</p>`}
  <//>`;
}

function Provider({ its }) {
  const [open, setOpen] = useState(false);
  const how = its.performance;
  const models = Object.entries(its.by_model ?? {});
  const name = say.plain(its.name);
  const to = (action) => path("providers", its.name, action);
  return html`<tbody data-provider=${its.name}>
    <tr>
      <th scope="row" data-label="Provider">
        <button type="button" class="fold" aria-expanded=${open} aria-label=${`models of ${name}`} onClick=${() => setOpen(!open)}>
          <span aria-hidden="true">${open ? "▾" : "▸"}</span></button>
        <span class="stack"><${Text} value=${its.name} /><small class="dim"><${Text} value=${its.adapter} /></small></span>
      </th>
      <td data-label="Breaker"><${Breaker} its=${its} /></td>
      <td data-label="In flight"><span class="meter"><${Bar} label=${`in flight at ${name}`} used=${its.in_flight} of=${its.max_concurrency} />
        <span>${its.in_flight} / ${say.whole(its.max_concurrency)}</span></span></td>
      <td data-label="Limits"><${Limits} its=${its} name=${name} /></td>
      <td data-label="p50" class="num">${say.millis(how.p50_latency_ms)}</td>
      <td data-label="p99" class="num">${say.millis(how.p99_latency_ms)}</td>
      <td data-label="Success" class="num">${say.percent(how.success_rate)}</td>
      <td data-label="Failures" class="num" title=${codes(how.failures_by_code)}>${say.whole(how.failures)}</td>
      <td data-label="Spend" class="num"><${Usd} value=${its.cost_usd} /></td>
      <td data-label="Keys">${its.keys.length ? its.keys.map((key, at) => html`<${Key} its=${key} left=${its.limiter.keys?.[at]} most=${its.limiter.key_limits} of=${name} />`) : html`<span class="dim">none</span>`}</td>
      <td data-label="Actions" class="actions">
        ${its.enabled
          ? html`<${Act} label="Disable" title=${`disable ${name}`} path=${to("disable")} done=${`${its.name} is disabled`}
              question=${`Take ${its.name} out? Requests go to the others, or wait.`} />`
          : html`<${Act} label="Enable" title=${`enable ${name}`} path=${to("enable")} done=${`${its.name} is enabled`} />`}
        <${Act} label="Reset" title=${`close the breaker of ${name}`} path=${to("reset")} done=${`${its.name}: the breaker is closed`} />
        <${Act} label="Check" title=${`ask whether ${name} answers`} path=${to("check")} done=${checked} />
      </td>
    </tr>
    ${open && html`<tr class="more"><td colspan="11"><${Models} models=${models} its=${its} /></td></tr>`}
  </tbody>`;
}

function Breaker({ its }) {
  const [look, word] = BREAKERS[its.breaker] ?? ["warn", say.plain(its.breaker)];
  const some = Object.entries(its.breakers ?? {}).filter(([, one]) => one.breaker !== "closed");
  return html`<span class="stack"><${State} look=${look} word=${word} />
    <small class="dim">${its.breaker_why && its.breaker !== "disabled" ? html`<${Text} value=${its.breaker_why} />` : ""}
      ${its.breaker_wait_s != null && `, ${say.span(its.breaker_wait_s)} left`}
      ${some.map(([model, one]) => html` <${Text} value=${model} />: ${say.plain(one.breaker)}`)}</small></span>`;
}

function Limits({ its, name }) {
  const limiter = its.limiter;
  const most = limiter.limits;
  // What is left is never more than all keys have left; an only key has no count of its own.
  const keys = (each) => (each == null ? null : each * (limiter.keys?.length || 1));
  const each = limiter.key_limits;
  const rows = [
    ["requests", limiter.available, smaller(most.burst, most.requests_per_minute, keys(each?.requests_per_minute))],
    ["tokens", limiter.tokens_available, smaller(most.tokens_per_minute, keys(each?.tokens_per_minute))],
  ].filter(([, left]) => left != null);
  return html`<span class="stack">
    <${Meters} rows=${rows} name=${name} />
    ${!rows.length && html`<span class="dim">none</span>`}
    ${limiter.blocked_s > 0 && html`<${State} look="warn" word=${`blocked for ${say.span(limiter.blocked_s)}`} />`}
    ${limiter.waiting > 0 && html`<small>${say.whole(limiter.waiting)} wait for it</small>`}
  </span>`;
}

/** How much of each limit is used, a line each; only what is left, where nobody knows of how much. */
function Meters({ rows, name, short = {} }) {
  return rows.map(([what, left, of]) =>
    of
      ? html`<span class="meter" title=${`${say.whole(left)} of ${say.whole(of)} ${what} left`}>
          <${Bar} label=${`${what} used of the limit of ${name}`} used=${of - left} of=${of} />
          <span>${say.compact(Math.max(0, of - left))} / ${say.compact(of)} ${short[what] ?? what}</span></span>`
      : html`<span>${say.compact(left)} ${what} left</span>`,
  );
}

/** The smallest of those that are known; undefined without any. */
const smaller = (...all) => all.filter((its) => its != null).sort((a, b) => a - b)[0];

function Key({ its, left, most, of }) {
  const [look, word] = KEYS[its.state] ?? ["warn", say.plain(its.state)];
  const rows = [
    ["requests", left?.available, most?.requests_per_minute],
    ["tokens", left?.tokens_available, most?.tokens_per_minute],
  ].filter(([, count, limit]) => count != null && limit != null);
  const wait = its.wait_s != null ? `, again in ${say.span(its.wait_s)}` : "";
  return html`<span class="key-state" title=${word + wait}><${State} look=${look} word=${its.state === "ok" ? "" : word} /><code><${Text} value=${its.key} /></code>
    <span class="unseen">${word}${wait}</span></span>
    ${rows.length > 0 && html`<span class="key-limits"><${Meters} rows=${rows} name=${`key ${say.plain(its.key)} of ${of}`} short=${SHORT} /></span>`}`;
}

function Models({ models, its }) {
  return html`<div class="models">
    <p class="dim">Serves <${Text} value=${its.models.join(", ")} />; priority ${its.priority}; health ${say.percent(its.health)}.</p>
    ${models.length
      ? html`<table class="plain"><thead><tr><th scope="col">Model</th><th scope="col" class="num">Requests</th><th scope="col" class="num">Success</th>
          <th scope="col" class="num">p50</th><th scope="col" class="num">p99</th><th scope="col" class="num">First token p50</th><th scope="col" class="num">Tokens / s</th><th scope="col">Failures</th></tr></thead>
          <tbody>${models.map(
            ([model, how]) => html`<tr key=${model}><th scope="row"><${Text} value=${model} /></th><td class="num">${say.whole(how.requests)}</td>
              <td class="num">${say.percent(how.success_rate)}</td><td class="num">${say.millis(how.p50_latency_ms)}</td><td class="num">${say.millis(how.p99_latency_ms)}</td>
              <td class="num">${say.millis(how.p50_time_to_first_token_ms)}</td><td class="num">${say.rate(how.tokens_per_second)}</td>
              <td><${Text} value=${codes(how.failures_by_code)} /></td></tr>`,
          )}</tbody></table>`
      : html`<p class="dim">Nobody has asked it yet.</p>`}
  </div>`;
}

const codes = (by) => Object.entries(by ?? {}).map(([code, count]) => `${code}: ${count}`).join(", ");

function checked(answer) {
  const detail = answer.detail ? `: ${answer.detail}` : "";
  return answer.healthy
    ? `${answer.name} answers, in ${say.millis(answer.latency_ms)}${detail}`
    : `${answer.name} does not answer${detail}`;
}
