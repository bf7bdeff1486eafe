// The jobs: a page at a time, filtered, kept fresh while the first page is shown.
import { html, useEffect, useRef, useState } from "./ui.js";
import * as say from "./format.js";
import { get } from "./api.js";
import { JobActions, isOver } from "./job_actions.js";
import { JOB_STATES, JobState, Section, State, Text, Usd, When, plainly } from "./parts.js";

const LIMIT = 20;
const FRESH_MS = 2000;
const ALL = { state: "", model: "", tag: "", since: "" };

export function Jobs({ changed, now, link }) {
  const [filter, setFilter] = useState(ALL);
  const [cursors, setCursors] = useState([null]);
  const [page, setPage] = useState(null);
  const [error, setError] = useState("");
  const asked = useRef(0);
  const cursor = cursors[cursors.length - 1];

  const load = async () => {
    const mine = ++asked.current;
    try {
      const found = await get(`/v1/jobs?${query(filter, cursor)}`);
      if (mine !== asked.current) return; // another filter was chosen meanwhile
      setPage(found);
      setError("");
    } catch (problem) {
      if (mine === asked.current) setError(problem.message);
    }
  };
  useEffect(() => {
    const timer = setTimeout(load, page ? 250 : 0); // typing is not a request a letter
    return () => clearTimeout(timer);
  }, [filter, cursor, link]);
  useEffect(() => {
    if (cursors.length > 1) return undefined; // an older page stands still while it is read
    const timer = setTimeout(() => document.hidden || load(), FRESH_MS);
    return () => clearTimeout(timer);
  }, [Math.floor(changed.at / 2), changed.jobs > 0]);

  const choose = (more) => {
    setFilter({ ...filter, ...more });
    setCursors([null]);
  };
  const jobs = page?.jobs ?? [];
  const isFiltered = Object.values(filter).some(Boolean);
  return html`<${Section} id="jobs" title="Jobs" aside=${html`<${Filters} filter=${filter} choose=${choose} isFiltered=${isFiltered} />`}>
    <div class="scroll jobs-box"><table class="cards jobs">
      <thead><tr><th scope="col">Job</th><th scope="col">State</th><th scope="col">Model</th><th scope="col">Priority</th><th scope="col">Tags</th>
        <th scope="col" class="num">Attempts</th><th scope="col" class="num">Cost</th><th scope="col" class="num">Created</th><th scope="col"><span class="unseen">Actions</span></th></tr></thead>
      <tbody>${jobs.map((its) => html`<${Row} key=${its.id} job=${its} now=${now} again=${load} />`)}</tbody>
    </table>
    ${page && !jobs.length && html`<p class="empty">${isFiltered
      ? "No job is like that. Take a filter away."
      : html`No jobs yet. <code>duck submit --model gpt-4o "Name a duck."</code> makes one.`}</p>`}
    ${error && html`<p class="empty"><${State} look="bad" word="Not loaded" /> <${Text} value=${error} /></p>`}</div>
    <nav class="pager" aria-label="pages of jobs">
      <button type="button" disabled=${cursors.length === 1} onClick=${() => setCursors(cursors.slice(0, -1))}>← Newer</button>
      <span class="dim">page ${cursors.length}${cursors.length > 1 ? ", standing still" : ", live"}</span>
      <button type="button" disabled=${!page?.cursor} onClick=${() => setCursors([...cursors, page.cursor])}>Older →</button>
    </nav>
  <//>`;
}

function Filters({ filter, choose, isFiltered }) {
  const field = (name) => (event) => choose({ [name]: event.target.value.trim() });
  return html`<form class="filters" role="search" aria-label="filter jobs" onSubmit=${(event) => event.preventDefault()}>
    <select aria-label="state" value=${filter.state} onChange=${field("state")}>
      <option value="">any state</option>
      ${JOB_STATES.map((its) => html`<option value=${its} title=${plainly(its)}>${its}</option>`)}
    </select>
    <input type="search" aria-label="model" placeholder="Model" value=${filter.model} onInput=${field("model")} />
    <input type="search" aria-label="tag" placeholder="Tag, as team=core" value=${filter.tag} onInput=${field("tag")} />
    <select aria-label="age" value=${filter.since} onChange=${field("since")}>
      <option value="">any age</option>
      ${["10m", "1h", "24h", "7d"].map((its) => html`<option value=${its}>last ${its}</option>`)}
    </select>
    <button type="button" class="quiet" disabled=${!isFiltered} onClick=${() => choose(ALL)}>Clear</button>
  </form>`;
}

function query(filter, cursor) {
  const its = new URLSearchParams({ limit: LIMIT });
  for (const [name, value] of Object.entries(filter)) {
    if (value && !(name === "tag" && !value.includes("="))) its.append(name, value);
  }
  if (cursor) its.set("cursor", cursor);
  return its;
}

function Row({ job, now, again }) {
  const tags = Object.entries(job.tags ?? {});
  return html`<tr data-job=${job.id}>
    <th scope="row" data-label="Job"><a href=${`#/jobs/${encodeURIComponent(job.id)}`} title=${say.plain(job.id)}>${short(job.id)}</a></th>
    <td data-label="State"><span class="stack"><${JobState} state=${job.state} /><small class="dim why">${job.wait_reason
      ? html`<${Text} value=${job.wait_reason.replaceAll("_", " ").replace(":", ": ")} />${job.wait_until > now + 1 && html`, <${When} at=${job.wait_until} now=${now} />`}`
      : job.errors?.length ? html`${isOver(job.state) ? `${plainly(job.state)}: ` : ""}<${Text} value=${job.errors[job.errors.length - 1].code ?? "error"} />`
      : ["completed", "cancelled"].includes(job.state) ? "" : plainly(job.state)}</small></span></td>
    <td data-label="Model"><span class="cut"><${Text} value=${job.model} /></span></td>
    <td data-label="Priority">${job.priority}</td>
    <td data-label="Tags"><span class="tags">${tags.slice(0, 3).map(([name, value]) => html`<span class="tag" title=${say.plain(`${name}=${value}`)}><${Text} value=${`${name}=${value}`} /></span>`)}
      ${tags.length > 3 && html`<small class="dim">and ${tags.length - 3}</small>`}</span></td>
    <td data-label="Attempts" class="num">${job.attempt} / ${job.max_attempts}</td>
    <td data-label="Cost" class="num">${job.cost_known ? html`<${Usd} value=${job.cost_usd} />` : html`<span title="a price or a usage is not known">not known</span>`}</td>
    <td data-label="Created" class="num"><${When} at=${job.created_at} now=${now} /></td>
    <td data-label="Actions" class="actions"><${JobActions} job=${job} again=${again} /></td>
  </tr>`;
}

/** A job's id for the eye: its end, which differs most. */
export const short = (id) => `…${say.plain(id).slice(-8)}`;
