// The supervision tree, live: state, restarts, mailbox, last crash; and how to crash a part of it.
import { html, memo, useState } from "./ui.js";
import * as say from "./format.js";
import { path } from "./api.js";
import { Act, Section, State, Text } from "./parts.js";

const STATES = {
  running: "ok", starting: "busy", restarting: "warn", stopping: "busy", stopped: "off",
};
const OPEN_MAX = 80; // a larger tree begins folded below its second level

export function Tree({ tree }) {
  const [folded, setFolded] = useState({});
  const [wanted, setWanted] = useState("");
  if (!tree) return html`<${Section} id="tree" title="Supervision tree" />`;
  const totals = count(tree);
  const large = totals.nodes > OPEN_MAX;
  const aside = html`<span class="dim">${say.whole(totals.nodes)} parts, ${say.whole(totals.restarts)} ${totals.restarts === 1 ? "restart" : "restarts"}</span>
    <input type="search" placeholder="Find a part" aria-label="find a part of the tree" value=${wanted} onInput=${(event) => setWanted(event.target.value.trim())} />`;
  const rows = [];
  list(tree, 0, rows, (node, depth) => !wanted && (folded[node.path] ?? (large && depth > 1)));
  const shown = wanted ? rows.filter(({ node }) => node.path.includes(wanted)) : rows;
  return html`<${Section} id="tree" title="Supervision tree" aside=${aside}>
    <div class="scroll tall"><table class="plain tree">
      <thead><tr><th scope="col" class="wide">Part</th><th scope="col">State</th><th scope="col" class="num" title="how often it was started again">Restarts</th>
        <th scope="col" class="num" title="messages that wait">Inbox</th><th scope="col"><span class="unseen">Actions</span></th></tr></thead>
      <tbody>${shown.map(
        ({ node, depth, closed }) => html`<${Row} key=${node.path} name=${node.name} at=${node.path} kind=${node.kind} strategy=${node.strategy} state=${node.state}
          restarts=${node.restarts} inbox=${node.inbox} crash=${node.last_crash} depth=${wanted ? 0 : depth} whole=${!!wanted}
          closed=${closed} children=${node.children?.length ?? 0} setFolded=${setFolded} />`,
      )}
      ${!shown.length && html`<tr><td colspan="5" class="empty">No part has “${wanted}” in its path.</td></tr>`}</tbody>
    </table></div>
  <//>`;
}

const Row = memo(function Row({ name, at, kind, strategy, state, restarts, inbox, crash, depth, whole, closed, children, setFolded }) {
  const toggle = () => setFolded((all) => ({ ...all, [at]: !closed }));
  return html`<tr data-path=${at}>
    <th scope="row"><span class="branch" style=${{ paddingInlineStart: `${depth * 1.1}rem` }}>
      ${children && !whole
        ? html`<button type="button" class="fold" aria-expanded=${!closed} aria-label=${`children of ${say.plain(name)}`} onClick=${toggle}><span aria-hidden="true">${closed ? "▸" : "▾"}</span></button>`
        : html`<span class="fold" aria-hidden="true"></span>`}
      <span class="part"><${Text} value=${whole ? at || name : name} /> ${kind !== "worker" && html`<small class="dim">${strategy ? strategy.replaceAll("_", " ") : kind}${closed ? `, ${children} below` : ""}</small>`}
        ${crash && html`<small class="crash" title=${`last crash: ${say.plain(crash)}`}>✕ <${Text} value=${crash} /></small>`}</span>
    </span></th>
    <td class="how"><${State} look=${STATES[state] ?? "warn"} word=${state} /></td>
    <td data-label="restarts" class=${`num ${restarts ? "risen" : "dim"}`}><span key=${restarts} class=${restarts ? "flash" : ""}>${restarts ? "↻ " : ""}${say.whole(restarts)}</span></td>
    <td data-label="inbox" class=${`num ${inbox ? "" : "dim"}`}>${say.whole(inbox)}</td>
    <td class="actions">${at && html`<${Act} quiet label="Restart" title=${`restart ${say.plain(at)}`} path=${path("tree", ...at.split("/"), "restart")}
      done=${`${at} was crashed, and is started again`}
      question=${`Crash ${at}? Its supervisor starts it again, as after any failure; what it has in hand fails.`} />`}</td>
  </tr>`;
});

function list(node, depth, rows, isClosed) {
  const closed = !!node.children?.length && isClosed(node, depth);
  rows.push({ node, depth, closed });
  if (!closed) for (const child of node.children ?? []) list(child, depth + 1, rows, isClosed);
}

function count(node) {
  const total = { nodes: 1, restarts: node.restarts };
  for (const child of node.children ?? []) {
    const its = count(child);
    total.nodes += its.nodes;
    total.restarts += its.restarts;
  }
  return total;
}
