// Four charts over the last five or thirty minutes, drawn by uPlot.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";
import uPlot from "./uPlot.esm.js";
import * as say from "./format.js";
import { columns } from "./recent.js";
import { Section } from "./parts.js";

const SPANS = [
  { seconds: 300, width: 6, name: "5 min" },
  { seconds: 1800, width: 30, name: "30 min" },
];
const HEIGHT = 150;
const WHOLE = [1, 2, 5].flatMap((step) => [0, 1, 2, 3, 4, 5, 6].map((zeros) => step * 10 ** zeros)).sort((a, b) => a - b);

const CHARTS = [
  {
    id: "throughput", title: "Throughput", unit: "requests / min", bars: true,
    series: [
      { name: "failed", of: "failed", colour: "--bad", text: say.rate, on: "ok" },
      { name: "ok", of: "ok", colour: "--chart-1", text: say.rate },
    ],
  },
  {
    id: "latency", title: "Latency", unit: "of requests",
    series: [
      { name: "p95", of: "p95", colour: "--chart-2", text: say.millis },
      { name: "p50", of: "p50", colour: "--chart-1", text: say.millis },
    ],
  },
  {
    id: "spend", title: "Spend", unit: "USD / hour", bars: true,
    series: [{ name: "spend", of: "usd", colour: "--chart-3", text: (value) => (value == null ? say.NONE : say.usd(value.toFixed(4))) }],
  },
  {
    id: "load", title: "Queue", unit: "requests", steps: WHOLE,
    series: [
      { name: "queued", of: "queued", colour: "--chart-2", text: say.whole, step: true },
      { name: "in flight", of: "running", colour: "--chart-1", text: say.whole, step: true },
    ],
  },
];

export function Charts({ points }) {
  const [span, setSpan] = useState(SPANS[0]);
  const aside = html`<div class="choice" role="group" aria-label="time shown">
    ${SPANS.map(
      (its) => html`<button type="button" aria-pressed=${its === span} onClick=${() => setSpan(its)}>${its.name}</button>`,
    )}
  </div>`;
  return html`<${Section} id="charts" title="Last minutes" aside=${aside}>
    <div class="charts">${CHARTS.map((its) => html`<${Chart} key=${its.id + span.seconds} its=${its} span=${span} points=${points} />`)}</div>
  <//>`;
}

function Chart({ its, span, points }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [index, setIndex] = useState(null);
  const [theme, setTheme] = useState(0);
  const last = points[points.length - 1];
  const end = last ? last.at + last.seconds : 0;
  const { at, column } = columns(points, end - span.seconds, span.width);
  const plain = its.series.map((line) => column(line.of));
  // What stands on another line is drawn first, as high as both together.
  const drawn = its.series.map((line, n) => {
    const under = its.series.findIndex((other) => other.of === line.on);
    return under < 0 ? plain[n] : plain[n].map((value, i) => (value == null ? null : value + (plain[under][i] ?? 0)));
  });

  useEffect(() => {
    const again = () => setTheme((count) => count + 1);
    window.addEventListener("duck-theme", again);
    return () => window.removeEventListener("duck-theme", again);
  }, []);
  useLayoutEffect(() => {
    const place = box.current; // the reference is emptied before the effect is undone
    const chart = new uPlot(options(its, place.clientWidth, setIndex), [[], ...its.series.map(() => [])], place);
    plot.current = chart;
    const watch = new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: HEIGHT }));
    watch.observe(place);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [theme]);
  useLayoutEffect(() => {
    const chart = plot.current;
    chart.batch(() => {
      chart.setData([at, ...drawn], false);
      chart.setScale("x", { min: end - span.seconds, max: end });
      const top = Math.max(0, ...drawn.flat().filter((value) => value != null));
      chart.setScale("y", { min: 0, max: top ? top * 1.08 : 1 });
    });
  }, [points, theme]);

  const shown = index ?? at.length - 1;
  return html`<figure class="chart" id=${`chart-${its.id}`}>
    <figcaption>
      <span class="chart-title">${its.title} <small>${its.unit}</small></span>
      <span class="legend">
        ${[...its.series.keys()].reverse().map(
          (n) => html`<span class="key"><i class="swatch" style=${{ background: `var(${its.series[n].colour})` }}></i>${its.series[n].name}<b>${its.series[n].text(plain[n][shown])}</b></span>`,
        )}
      </span>
    </figcaption>
    <div class="plot" ref=${box} aria-hidden="true"></div>
    ${!at.length && html`<p class="chart-empty">Nothing yet: figures come every two seconds.</p>`}
  </figure>`;
}

function options(its, width, setIndex) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"), font: "11px system-ui, sans-serif",
    grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
  };
  const text = its.series[0].text;
  return {
    // On the right there is room for half of the last label.
    width, height: HEIGHT, padding: [8, 20, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !its.bars } },
    hooks: { setCursor: [(chart) => setIndex(chart.cursor.idx)] },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    axes: [
      { ...axis, size: 24, space: 60, values: (_, splits) => splits.map((at) => say.clock(at).slice(0, 5)), incrs: [60, 120, 300, 600] },
      { ...axis, size: 58, space: 28, ...(its.steps && { incrs: its.steps }), values: (_, splits) => splits.map((value) => (value === 0 ? "0" : text(value))) },
    ],
    series: [
      {},
      ...its.series.map((line) => ({
        stroke: colour(line.colour), width: its.bars ? 0 : 1.6, points: { show: false },
        fill: its.bars ? colour(line.colour) : undefined,
        paths: its.bars ? uPlot.paths.bars({ size: [0.8, 40] }) : line.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
      })),
    ],
  };
}
