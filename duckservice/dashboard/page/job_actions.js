// What can be done to a job in each of its states.
import { html } from "./ui.js";
import { path } from "./api.js";
import { Act } from "./parts.js";

const WAITS = ["scheduled", "available", "retryable"];

export const isOver = (state) => ["completed", "discarded", "cancelled", "expired"].includes(state);

export function JobActions({ job, again }) {
  const its = { again, job };
  return html`<span class="buttons">
    ${WAITS.includes(job.state) && button(its, "hold", "Hold", "is held")}
    ${job.state === "suspended" && button(its, "release", "Release", "is released")}
    ${isOver(job.state) && job.state !== "completed" && button(its, "retry", "Retry", "is tried again")}
    ${!isOver(job.state) && button(its, "cancel", "Cancel", "is cancelled", `Cancel ${job.id}? It ends at once, and what a provider has already done is paid.`)}
  </span>`;
}

function button({ job, again }, action, label, done, question) {
  return html`<${Act} key=${action} label=${label} title=${`${action} ${job.id}`} path=${path("jobs", job.id, action)} done=${`${job.id} ${done}`}
    question=${question} again=${again} />`;
}
