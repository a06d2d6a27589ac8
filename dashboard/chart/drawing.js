// When charts draw: those on screen, one in a frame, so that a page of many never keeps the browser from its user.

const waiting = new Set();
const firstDrawn = Promise.withResolvers();
let frame = 0;

function drawSoon(chart) {
  waiting.add(chart);
  frame ||= requestAnimationFrame(drawNext);
}

function drawNext() {
  frame = 0;
  const [chart] = waiting;
  if (!chart) return;
  waiting.delete(chart);
  chart.draw();
  firstDrawn.resolve();
  if (waiting.size) frame = requestAnimationFrame(drawNext);
}

// The component that tells the page when the browser has drawn a chart, and shown it.
function whenDrawn(component) {
  firstDrawn.promise.then(() => requestAnimationFrame(() => setTimeout(() => component.setTriggerValue("drawn", true))));
}

// A chart that is out of sight keeps what came and draws it when it is scrolled to.
const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const chart = target.asymChart;
      if (!chart) continue;
      chart.onScreen = isIntersecting;
      if (isIntersecting && chart.stale) drawSoon(chart);
    }
  },
  { rootMargin: "200px" },
);

// ---- what has come since the chart's message: dashboard/chart/live.py ----

const tails = new Map(); // chart's name -> {version, lines: [{x, y, low, high}, ...]}

// The component that carries the tails of all charts of a page: a few points instead of the curves.
function receiveTails(component) {
  const data = JSON.parse(new TextDecoder().decode(component.data));
  for (const [name, tail] of Object.entries(data)) tails.set(name, tail);
  for (const chart of charts) if (chart.base?.name && data[chart.base.name]) chart.receive();
}

// The message of a live chart is text, sent once; it says by `version` which tail belongs to it.
function decoded(data, known) {
  if (!(data instanceof Uint8Array)) return data;
  if (known?.bytes === data) return known;
  const text = new TextDecoder().decode(data);
  if (known?.text === text) return known;
  return { ...JSON.parse(text), bytes: data, text };
}

function withTail(base) {
  const tail = base.name ? tails.get(base.name) : undefined;
  if (!tail || tail.version !== base.version) return base;
  return { ...base, series: base.series.map((line, index) => joined(line, tail.lines[index])) };
}

// The points of `more` put into the line, over those at the same place.
function joined(line, more) {
  if (!more || more.x.length === 0) return line;
  const columns = ["y", "low", "high", "notes"].filter((name) => line[name]);
  const append = line.x.length === 0 || more.x[0] > line.x[line.x.length - 1];
  if (append) return { ...line, x: line.x.concat(more.x), ...Object.fromEntries(columns.map((name) => [name, line[name].concat(more[name])])) };
  const points = new Map();
  for (const part of [line, more]) part.x.forEach((x, i) => points.set(x, columns.map((name) => part[name][i])));
  const x = [...points.keys()].sort((a, b) => a - b);
  return { ...line, x, ...Object.fromEntries(columns.map((name, i) => [name, x.map((at) => points.get(at)[i])])) };
}
