// The small parts that everything is made of: texts, states, times, bars, buttons, dialogs.
import { html, useEffect, useRef, useState } from "./ui.js";
import * as say from "./format.js";
import { post } from "./api.js";

/** Text from outside: isolated, with what is invisible in it made visible. */
export function Text({ value, empty = say.NONE }) {
  if (value == null || value === "") return html`<span class="dim">${empty}</span>`;
  return html`<bdi>${say.pieces(String(value)).map((piece) =>
    typeof piece === "string" ? piece : html`<span class="hidden-mark" title="an invisible character">${piece.code}</span>`,
  )}</bdi>`;
}

const SIGNS = {
  ok: "●", busy: "◐", warn: "▲", bad: "✕", off: "⊘", idle: "○",
};

/** A state: a sign, a word and a colour, so that no one of them is needed. */
export function State({ look, word, title }) {
  return html`<span class=${`state ${look}`} title=${title && say.plain(title)}
    ><span class="sign" aria-hidden="true">${SIGNS[look]}</span> ${word}</span
  >`;
}

const JOBS = {
  suspended: ["off", "held"], scheduled: ["idle", "not yet"], available: ["idle", "waiting"],
  executing: ["busy", "running"], retryable: ["warn", "retrying"], completed: ["ok", "done"],
  discarded: ["bad", "failed"], cancelled: ["off", "called off"], expired: ["bad", "too late"],
};

/** A job's state, by the word that the API and `duck jobs --state` have for it. */
export function JobState({ state }) {
  const [look] = JOBS[state] ?? ["idle"];
  return html`<${State} look=${look} word=${say.plain(state)} title=${plainly(state)} />`;
}

/** What a job's state means, in plain words; "" for one that is not known here. */
export const plainly = (state) => JOBS[state]?.[1] ?? "";

export const JOB_STATES = Object.keys(JOBS);

/** A moment, relative to *now*, in full when pointed at. */
export function When({ at, now }) {
  if (at == null) return html`<span class="dim">${say.NONE}</span>`;
  return html`<time datetime=${new Date(at * 1000).toISOString()} title=${say.full(at)}>${say.relative(at, now)}</time>`;
}

/** Money: readable, and exact when pointed at. */
export function Usd({ value }) {
  return html`<span title=${value == null ? "not known" : say.exactUsd(value)}>${say.usd(value)}</span>`;
}

/** How much of a limit is used; *second* is what is set aside beyond it. */
export function Bar({ label, used, second = 0, of, look }) {
  const share = (value) => `${Math.min(100, Math.max(0, of ? (value / of) * 100 : 0))}%`;
  const full = of ? (used + second) / of : 0;
  const colour = look ?? (full >= 0.98 ? "bad" : full >= 0.8 ? "warn" : "ok");
  return html`<span class=${`bar ${colour}`} role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax=${of || 1}
    aria-valuenow=${Math.min(of || 1, Math.max(0, used))}
    ><span class="fill" style=${{ width: share(used) }}></span
    ><span class="fill second" style=${{ width: share(Math.min(second, of - used)) }}></span
  ></span>`;
}

/** A titled part of the page. */
export function Section({ id, title, aside, children }) {
  return html`<section id=${id} class="panel" aria-labelledby=${`${id}-title`}>
    <header class="panel-head"><h2 id=${`${id}-title`} tabindex="-1">${title}</h2>${aside}</header>
    ${children}
  </section>`;
}

// Actions: a question where it is needed, one notice about what came of it.

let asking = null;
let telling = null;

/** Ask, if there is a question; POST; tell what came of it. True when it was done. */
export async function act({ path, done, question, verb, again }) {
  if (question && !(await asking?.(question, verb))) return false;
  try {
    const answer = await post(path);
    telling?.("ok", typeof done === "function" ? done(answer) : done);
    again?.(answer);
    return true;
  } catch (error) {
    telling?.("bad", error.message);
    return false;
  }
}

/** A button that acts, and cannot be pressed twice at once. */
export function Act({ label, title, danger, quiet, disabled, ...action }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    try {
      await act({ verb: label, ...action });
    } finally {
      setBusy(false);
    }
  };
  const look = danger ? "danger" : quiet ? "quiet" : "";
  return html`<button type="button" class=${look} title=${title} aria-label=${title ?? label} aria-busy=${busy}
    disabled=${disabled} onClick=${() => busy || press()}>${label}</button>`;
}

/** The question before something is destroyed: a modal dialog, its harmless answer first. */
export function Question() {
  const [open, setOpen] = useState(null);
  const box = useRef(null);
  useEffect(() => {
    asking = (question, verb) => new Promise((answer) => setOpen({ question, verb, answer }));
    return () => {
      asking = null;
    };
  }, []);
  useEffect(() => {
    if (open && !box.current.open) box.current.showModal();
  }, [open]);
  const close = (yes) => {
    open?.answer(yes);
    box.current.close();
    setOpen(null);
  };
  return html`<dialog ref=${box} aria-labelledby="question" onCancel=${(event) => (event.preventDefault(), close(false))}>
    ${open && html`<p id="question"><${Text} value=${open.question} /></p>
      <div class="buttons">
        <button type="button" autofocus onClick=${() => close(false)}>Leave it</button>
        <button type="button" class="danger solid" onClick=${() => close(true)}>${open.verb}</button>
      </div>`}
  </dialog>`;
}

const NOTICES_MAX = 4;
const NOTICE_MS = 6000;

/** What came of actions; failures stay until they are closed. Clicks pass through to what is below. */
export function Notices() {
  const [notices, setNotices] = useState([]);
  const serial = useRef(0);
  const drop = (key) => setNotices((all) => all.filter((its) => its.key !== key));
  useEffect(() => {
    telling = (look, message) => {
      const key = ++serial.current;
      setNotices((all) => [...all, { key, look, message }].slice(-NOTICES_MAX));
      if (look === "ok") setTimeout(() => drop(key), NOTICE_MS);
    };
    return () => {
      telling = null;
    };
  }, []);
  return html`<div class="notices" role="status" aria-live="polite">
    ${notices.map(
      ({ key, look, message }) => html`<div key=${key} class=${`notice ${look}`}>
        <${State} look=${look} word=${look === "ok" ? "Done" : "Failed"} />
        <span class="grow"><${Text} value=${message} /></span>
        ${look !== "ok" && html`<button type="button" class="quiet" aria-label="close this notice" onClick=${() => drop(key)}>✕</button>`}
      </div>`,
    )}
  </div>`;
}
