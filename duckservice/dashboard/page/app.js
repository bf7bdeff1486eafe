// The page: what is shown at which address, the header, and the news that something is lost.
import { html, memo, render, useEffect, useState } from "./ui.js";
import * as say from "./format.js";
import { follow, live, subscribe } from "./stream.js";
import { Notices, Question, State, Text } from "./parts.js";
import { Tiles } from "./tiles.js";
import { Charts } from "./charts.js";
import { Providers } from "./providers.js";
import { Budgets, Queue } from "./queue.js";
import { Tree } from "./tree.js";
import { Jobs } from "./jobs.js";
import { Job } from "./job.js";
import { News } from "./news.js";

const SECTIONS = [
  ["charts", "Charts"], ["providers", "Providers"], ["jobs", "Jobs"], ["queue", "Queue"],
  ["budgets", "Budgets"], ["tree", "Tree"], ["events", "Events"],
];

const parts = {
  Charts: memo(Charts), Providers: memo(Providers), Queue: memo(Queue), Budgets: memo(Budgets), Tree: memo(Tree), News: memo(News),
};

function App() {
  const [, draw] = useState(0);
  const route = useRoute();
  useEffect(() => subscribe(() => draw((count) => count + 1)), []);
  const now = live.at ?? Date.now() / 1000;
  const changed = { at: Math.floor(now), jobs: live.jobsChanged };
  const waits = live.status?.queue.waiting;
  useEffect(() => {
    const word = ["live", "connecting"].includes(live.link) ? "" : "lost: ";
    document.title = `${word}duck${waits ? ` (${waits} queued)` : ""}`;
  }, [live.link, waits]);
  return html`<${Header} />
    <${Lost} />
    ${route.job
      ? html`<${Job} key=${route.job} id=${route.job} now=${now} changed=${changed} />`
      : html`<${Overview} now=${now} changed=${changed} />`}
    <${Notices} /><${Question} />`;
}

function Overview({ now, changed }) {
  const { points, providers, queue, budgets, tree, news, link } = live;
  return html`<main class="overview">
    <h2 class="unseen">Overview</h2>
    <${Tiles} live=${live} />
    <${parts.Charts} points=${points} />
    <${parts.Providers} providers=${providers} />
    <${Jobs} changed=${changed} now=${now} link=${link} />
    <div class="side"><${parts.Queue} queue=${queue} /><${parts.Budgets} budgets=${budgets} minute=${Math.floor(now / 60) * 60} />
      <${parts.Tree} tree=${tree} /></div>
    <${parts.News} news=${news} />
  </main>`;
}

const THEMES = { system: ["◐", "light"], light: ["☀", "dark"], dark: ["☾", "system"] };

function Header() {
  const [theme, setTheme] = useState(window.duckTheme.choice());
  const { status, hello } = live;
  const [sign, next] = THEMES[theme];
  const change = () => {
    window.duckTheme.choose(next);
    setTheme(next);
  };
  return html`<a class="skip" href="#/charts">Skip to the content</a><header class="top">
    <h1><a href="#/"><img src="/static/icon.svg" alt="" width="22" height="22" /> duck</a></h1>
    <${Link} />
    <span class="facts"><span class="fact">duckd ${say.plain(status?.version ?? hello?.version ?? "")}</span>
      ${status && html`<span class="fact">up ${say.span(status.uptime_s)}</span><span class="fact">pid ${status.pid}</span>${status.state !== "running" ? html`<${State} look="warn" word=${status.state} />` : ""}`}
      ${hello?.socket && html`<span class="fact socket" title=${say.plain(hello.socket)}><${Text} value=${hello.socket} /></span>`}</span>
    <nav aria-label="parts of the page">${SECTIONS.map(([id, name]) => html`<a href=${`#/${id}`}>${name}</a>`)}</nav>
    <button type="button" class="quiet theme" aria-label=${`colours: ${theme}; change to ${next}`} title=${`Colours: ${theme}`} onClick=${change}><span aria-hidden="true">${sign}</span></button>
  </header>`;
}

function Link() {
  const looks = { live: ["ok", "live"], connecting: ["busy", "connecting"], lost: ["bad", "lost"], cut: ["bad", "lost"], ended: ["bad", "ended"] };
  const [look, word] = looks[live.link];
  return html`<span id="link" class="link"><${State} look=${look} word=${word} /></span>`;
}

const ADVICE = {
  lost: "duckd does not answer. What is below is what was last known; it goes on by itself when duckd is back.",
  cut: "The dashboard does not answer: is duck dashboard still running? It is asked again every few seconds.",
  ended: "This page is no longer let in. Run duck dashboard again, and open the address that it prints.",
};

/** What is lost, since when, and what to do; a live region that is always there. */
function Lost() {
  const advice = ADVICE[live.link];
  return html`<div class="lost" id="lost" role="alert">${advice &&
    html`<p><${State} look="bad" word="Lost" /> since ${say.clock(live.lostAt)}. ${advice} ${live.reason && html`<small><${Text} value=${live.reason} /></small>`}</p>`}</div>`;
}

/** The address behind "#": a job, or a part of the overview to go to. */
function useRoute() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  const job = /^#\/jobs\/(.+)$/.exec(hash);
  const part = /^#\/(\w+)$/.exec(hash)?.[1];
  useEffect(() => {
    if (!SECTIONS.some(([id]) => id === part)) return;
    document.getElementById(part)?.scrollIntoView();
    document.getElementById(`${part}-title`)?.focus({ preventScroll: true });
  }, [part]);
  return { job: job && decoded(job[1]) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // a token there has been used
follow();
render(html`<${App} />`, document.getElementById("app"));
