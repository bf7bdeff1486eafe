// The live state: what /stream told, kept small, and drawn a few times a second at most.

const POINTS_MAX = 900; // half an hour, one every two seconds
const NEWS_MAX = 500;
const DRAW_EVERY_MS = 250;
const PARTS = ["status", "tree", "providers", "queue", "budgets", "costs"];

/** What is known. Parts that did not change keep their identity, so nobody draws them again. */
export const live = {
  /** "connecting", "live", "lost" (the daemon is gone), "cut" (the dashboard is), "ended" (for good). */
  link: "connecting",
  reason: "",
  lostAt: null,
  hello: null,
  at: null,
  points: [],
  news: [],
  jobsChanged: 0,
};

const listeners = new Set();
const texts = {};
let raw = null;
let serial = 0;
let timer = null;

/** Call *listener* after changes; return how to stop that. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Follow /stream for as long as the page lives. */
export function follow() {
  const source = new EventSource("/stream");
  const on = (name, handle) =>
    source.addEventListener(name, (event) => {
      handle(event.data);
      changed();
    });
  on("hello", (data) => {
    live.hello = JSON.parse(data);
  });
  on("history", (data) => {
    live.points = JSON.parse(data).points.slice(-POINTS_MAX);
  });
  on("snapshot", (data) => {
    raw = data; // parsed when it is drawn: a hidden page parses none
    found();
  });
  on("point", (data) => {
    live.points = [...live.points.slice(1 - POINTS_MAX), JSON.parse(data)];
  });
  on("news", (data) => note(JSON.parse(data)));
  on("lost", (data) => lose("lost", JSON.parse(data).reason));
  on("found", found);
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) lose("ended", "It refuses this page.");
    else lose("cut", "The connection to it broke off.");
    changed();
  };
  document.addEventListener("visibilitychange", changed);
}

function found() {
  live.link = "live";
  live.reason = "";
  live.lostAt = null;
}

function lose(link, reason) {
  if (live.link === "live" || live.lostAt === null) live.lostAt = Date.now() / 1000;
  live.link = link;
  live.reason = reason;
}

function note(event) {
  serial += 1;
  live.news = [{ serial, event }, ...live.news.slice(0, NEWS_MAX - 1)];
  if (event.type === "job") live.jobsChanged += 1;
}

function changed() {
  if (document.hidden || timer !== null) return;
  timer = setTimeout(draw, DRAW_EVERY_MS);
}

function draw() {
  timer = null;
  if (raw !== null) {
    take(JSON.parse(raw));
    raw = null;
  }
  for (const listener of listeners) listener();
}

function take(snapshot) {
  live.at = snapshot.at;
  for (const part of PARTS) {
    const text = JSON.stringify(snapshot[part] ?? null);
    if (texts[part] === text) continue;
    texts[part] = text;
    live[part] = snapshot[part] ?? null;
  }
}
