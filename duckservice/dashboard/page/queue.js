// Who waits, by priority and provider, and what is left of the budgets.
import { html } from "./ui.js";
import * as say from "./format.js";
import { path } from "./api.js";
import { Act, Bar, Section, State, Text, Usd, When } from "./parts.js";

const PRIORITIES = ["high", "normal", "low"];

export function Queue({ queue }) {
  if (!queue) return html`<${Section} id="queue" title="Queue" />`;
  const aside = queue.paused
    ? html`<${State} look="warn" word="paused" /> <${Act} label="Resume" title="resume the queue" path=${path("queue", "resume")} done="The queue goes on" />`
    : html`<${State} look="ok" word="running" /> <${Act} label="Pause" title="pause the queue" path=${path("queue", "pause")} done="The queue is paused"
        question="Pause the queue? Nothing new begins, also after a restart, until it is resumed. What is under way goes on." />`;
  const most = Math.max(1, ...PRIORITIES.map((its) => queue.depth[its]));
  const lanes = Object.entries(queue.lanes);
  return html`<${Section} id="queue" title="Queue" aside=${aside}>
    <table class="plain"><thead><tr><th scope="col">Priority</th><th scope="col" class="wide"></th><th scope="col" class="num">Waiting</th></tr></thead>
      <tbody>${PRIORITIES.map(
        (its) => html`<tr key=${its}><th scope="row">${its}</th><td><${Bar} label=${`waiting with ${its} priority`} used=${queue.depth[its]} of=${most} look="ok" /></td>
          <td class="num">${say.whole(queue.depth[its])}</td></tr>`,
      )}</tbody></table>
    <table class="plain"><thead><tr><th scope="col" class="wide">Provider</th><th scope="col" class="num">Waiting</th><th scope="col" class="num">Running</th></tr></thead>
      <tbody>${lanes.map(
        ([name, lane]) => html`<tr key=${name}><th scope="row"><${Text} value=${name} /></th><td class="num">${say.whole(lane.waiting)}</td><td class="num">${say.whole(lane.running)}</td></tr>`,
      )}</tbody></table>
    <p class="foot dim">${say.whole(queue.waiting)} of at most ${say.whole(queue.max_size)} wait${queue.waiting ? `; the oldest for ${say.span(queue.oldest_wait_s)}` : ""}.</p>
  <//>`;
}

export function Budgets({ budgets, minute }) {
  const all = budgets?.budgets ?? [];
  return html`<${Section} id="budgets" title="Budgets">
    ${all.length
      ? html`<ul class="budgets">${all.map((its) => html`<${Budget} key=${its.name} its=${its} now=${minute} />`)}</ul>`
      : html`<p class="empty">No budget is set. <code>[budgets.daily]</code> with <code>limit_usd = 20.0</code> in the configuration makes one.</p>`}
  <//>`;
}

function Budget({ its, now }) {
  const [limit, spent, reserved] = [its.limit_usd, its.spent_usd, its.reserved_usd].map(Number);
  const used = limit ? (spent + reserved) / limit : 1;
  const only = Object.entries(its.match).filter(([, value]) => value != null).map(([name, value]) => `${name} ${value}`).join(", ");
  return html`<li>
    <div class="row"><b><${Text} value=${its.name} /></b>
      ${used >= 0.98 ? html`<${State} look="bad" word="used up" />` : used >= 0.8 ? html`<${State} look="warn" word="nearly used up" />` : ""}
      <span class="grow"></span><span><${Usd} value=${its.spent_usd} /> of <${Usd} value=${its.limit_usd} /></span></div>
    <${Bar} label=${`spent and reserved of ${say.plain(its.name)}`} used=${spent} second=${reserved} of=${limit} />
    <div class="row dim small"><span><${Usd} value=${its.remaining_usd} /> left, <${Usd} value=${its.reserved_usd} /> reserved</span><span class="grow"></span>
      <span>${only && html`<${Text} value=${only} />, `}each ${its.window}${its.until && html`, new <${When} at=${Date.parse(its.until) / 1000} now=${now} />`}</span></div>
  </li>`;
}
