// A time-series chart that outlives the refreshes of its page.
//
// Streamlit calls `draw` again, with the same parentElement, whenever the data or the theme changes. The uPlot object is
// kept between those calls and only fed, so a zoom, a hidden series and the cursor survive a tick. It is built anew only
// when its structure (series, axes, theme, heights) changes, and then takes the zoom over.
//
// `data` (built in dashboard/chart/__init__.py):
//   title, subtitle, unit, x_label, height, log, smooth, sync, empty, y_min, y_max,
//   kind: "lines" | "stack" | "heatmap"
//   series: [{label, color: [light, dark], dash, points, x: [], y: [], low: [], high: [], notes: []}]
//   spans: [{low, high, label, color, note, step, href}]   shaded stretches of x (spans.js); plane: see plane.js
//   heatmap: {x: [], z: [[count, ...], ...]}       z[i][j]: how many groups of step x[i] had j correct rollouts
// y may hold nulls: the metric is undefined there, and the line has a gap. Text is only ever set as textContent.

const GAP = null;
const INCREMENTS = Array.from({ length: 17 }, (_, i) => i - 4).flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
const kept = new WeakMap(); // parentElement -> Chart

function draw(component) {
  const { parentElement } = component;
  let chart = kept.get(parentElement);
  const data = decoded(component.data, chart?.base);
  if (!chart) {
    chart = data.kind === "plane" ? new PlaneChart(parentElement) : new Chart(parentElement);
    kept.set(parentElement, chart);
  }
  chart.askFor = (step) => component.setTriggerValue("step", step);
  chart.update(data, component.setStateValue);
  return () => {
    chart.destroy();
    kept.delete(parentElement);
  };
}

// ---- numbers ----

function formatNumber(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (unit === "%") return trimmed(value * 100, 3) + " %";
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(2).replaceAll("-", "−");
  if (size >= 1e9) return trimmed(value / 1e9, 3) + "G";
  if (size >= 1e6) return trimmed(value / 1e6, 3) + "M";
  if (size >= 1e4) return trimmed(value / 1e3, 3) + "k";
  return trimmed(value, 4);
}

function trimmed(value, digits) {
  const text = Number(value.toPrecision(digits));
  return String(text).replace("-", "−");
}

// The labels of one axis share their precision, so that 0.45 and 0.5 do not stand over each other as 0.45 and 0.5.
function axisLabels(ticks, unit) {
  if (ticks.length < 2 || unit === "log") return ticks.map((tick) => (tick === null ? "" : formatNumber(tick, "")));
  const scale = unit === "%" ? 100 : 1;
  const largest = Math.max(...ticks.map(Math.abs)) * scale;
  const step = Math.abs(ticks[1] - ticks[0]) * scale;
  if (step < 1e-3 && largest < 1e-2) return ticks.map((tick) => (tick === 0 ? "0" : tick.toExponential(1).replaceAll("-", "−")));
  const [divisor, suffix] = largest >= 1e9 ? [1e9, "G"] : largest >= 1e6 ? [1e6, "M"] : largest >= 1e4 ? [1e3, "k"] : [1, ""];
  const shown = step / divisor;
  let decimals = 0; // as many as the step needs: 0.025 has three
  while (decimals < 8 && Math.abs(shown * 10 ** decimals - Math.round(shown * 10 ** decimals)) > 1e-6 * shown * 10 ** decimals) decimals++;
  return ticks.map((tick) => ((tick * scale) / divisor).toFixed(decimals).replace("-", "−") + suffix + (unit === "%" ? " %" : ""));
}

// Exponential moving average without the pull towards zero at the beginning (Adam's bias correction). Gaps stay gaps.
function smoothed(values, weight) {
  let sum = 0;
  let norm = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

// ---- data: the server's columns -> uPlot's aligned columns ----

// Returns {columns, lines}: columns[0] is x; lines[i] says which column holds series i, and which its raw values, band.
function aligned(data) {
  const tables = [];
  const nullModes = [];
  const roles = [];
  for (const [index, series] of data.series.entries()) {
    // Curves measured every so many steps (evaluations) are left as they are.
    const smooth = data.kind === "lines" && !series.points && data.smooth > 0;
    const columns = { value: smooth ? smoothed(series.y, data.smooth) : series.y };
    if (smooth) columns.raw = series.y;
    if (series.low && series.high) Object.assign(columns, { low: series.low, high: series.high });
    tables.push([series.x, ...Object.values(columns)]);
    nullModes.push([0, ...Object.values(columns).map(() => 1)]); // 1: keep nulls, they are gaps
    roles.push(...Object.keys(columns).map((role) => ({ index, role })));
  }
  const columns = tables.length ? uPlot.join(tables, nullModes) : [[]];
  const lines = data.series.map(() => ({}));
  roles.forEach(({ index, role }, position) => (lines[index][role] = position + 1));
  return { columns, lines };
}

// Cumulative columns, the first series at the bottom. A step that lacks every part stays a gap.
function stacked(columns) {
  const total = columns[0].map(() => 0);
  return columns.map((column, index) => {
    if (index === 0) return column;
    return column.map((value, i) => {
      total[i] += value ?? 0;
      return value === null || value === undefined ? GAP : total[i];
    });
  });
}

// ---- the chart ----

class Chart {
  constructor(parent) {
    this.root = element("div", "asym-chart");
    const style = document.createElement("style");
    style.textContent = STYLE;
    parent.append(style, this.root);
    this.head = element("div", "head");
    this.title = element("div", "title");
    this.legend = element("div", "legend");
    this.reset = element("button", "reset", "Reset zoom");
    this.reset.type = "button";
    this.reset.addEventListener("click", () => this.zoom(null));
    this.head.append(this.title);
    this.plot = element("div", "plot");
    this.tooltip = element("div", "tooltip");
    this.empty = element("div", "empty");
    this.marks = new SpanMarks((step) => this.askFor(step));
    this.plot.append(this.tooltip, this.empty, this.marks.root);
    this.outsideNote = element("div", "outside");
    this.root.append(this.head, this.legend, this.outsideNote, this.plot);
    addTools(this);
    this.hidden = new Set(); // labels of series that the user switched off
    this.range = null; // the zoomed [from, to], or null
    charts.add(this);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.plot);
    this.root.asymChart = this;
    this.onScreen = false;
    sight.observe(this.root);
  }

  update(data, setStateValue) {
    this.setStateValue = setStateValue;
    // The message of a live chart comes again with every refresh: what is new is in its tail.
    if (data === this.base && JSON.stringify(readTheme(this.root)) === JSON.stringify(this.theme)) return;
    if (this.base === undefined && data.zoom) this.showRange(data.zoom); // of a copied link
    this.base = data;
    this.receive();
  }

  // Something came: the chart's message, or points that follow it. Drawn at once only where it can be seen.
  receive() {
    const data = withTail(this.base);
    this.data = data;
    this.plot.style.minHeight = `${data.height}px`;
    const lengths = data.kind === "heatmap" ? [data.heatmap.x.length] : data.series.map((line) => line.x.length);
    const ends = data.kind === "heatmap" ? [data.heatmap.x.at(-1) ?? -1] : data.series.map((line) => line.x.at(-1) ?? -1);
    this.root.dataset.steps = String(Math.max(0, ...lengths));
    this.root.dataset.last = String(Math.max(-1, ...ends));
    this.root.dataset.updates = String(Number(this.root.dataset.updates ?? 0) + 1);
    this.stale = true;
    if (this.onScreen) drawSoon(this);
  }

  draw() {
    if (!this.stale || !this.root.isConnected) return;
    this.stale = false;
    const { data } = this;
    this.theme = readTheme(this.root);
    this.root.classList.toggle("dark", this.theme.dark);
    const { columns, lines } = aligned(data);
    this.lines = lines;
    this.raw = columns;
    this.columns = data.kind === "heatmap" ? heatmapColumns(data) : data.kind === "stack" ? stacked(columns) : columns;
    this.undrawable = 0;
    if (data.log) ({ drawn: this.columns, undrawable: this.undrawable } = positiveOnly(this.columns));
    this.outside = null;
    this.drawHead();
    describeTools(this);
    const steps = this.columns[0].length;
    this.empty.textContent = steps ? "" : data.empty;
    this.root.classList.toggle("without-data", steps === 0);
    const structure = JSON.stringify([
      data.kind, data.unit, data.x_label, data.log, data.log_x, data.height, data.sync, data.y_min, data.y_max, data.smooth > 0, data.clip,
      this.theme, lanesOf(data.spans).length, data.series.map((s) => [s.label, s.color, s.dash, s.points, Boolean(s.low)]),
    ]);
    if (structure !== this.structure) {
      this.structure = structure;
      this.build();
    } else {
      this.feed();
    }
    this.root.dataset.steps = String(steps);
  }

  // Replacing the data rescales everything unless the zoom is put back in the same batch.
  feed() {
    const range = this.range;
    this.u.batch(() => {
      this.u.setData(this.columns, range === null);
      if (range !== null) this.u.setScale("x", { min: range[0], max: range[1] });
    });
  }

  build() {
    this.u?.destroy();
    this.u = new uPlot(this.options(), this.columns, this.plot);
    this.plot.append(this.tooltip, this.empty, this.marks.root);
    this.root.dataset.builds = String(Number(this.root.dataset.builds ?? 0) + 1);
    if (this.range !== null) this.feed();
  }

  options() {
    const { data, theme } = this;
    const series = [{ label: data.x_label }];
    const bands = [];
    data.series.forEach((line, index) => {
      const color = line.color[theme.dark ? 1 : 0];
      const show = !this.hidden.has(line.label);
      const columns = this.lines[index];
      const of = (role, extra) => (series[columns[role]] = { label: line.label, scale: "y", show, spanGaps: false, ...extra });
      const markers = line.points ? { show: true, size: 5, fill: color, stroke: color } : { show: sparse, filter: lonely, size: 4, fill: color };
      of("value", { stroke: color, width: data.kind === "stack" ? 1 : data.series.length > MANY ? 1 : 1.75, dash: line.dash, points: data.kind === "stack" ? { show: false } : markers });
      if (data.kind === "stack") {
        series[columns.value].fill = color + "66";
        if (index > 0) bands.push({ series: [columns.value, this.lines[index - 1].value], fill: color + "66" });
      }
      if (columns.raw) of("raw", { stroke: color + "44", width: 1, points: { show: false } });
      if (columns.low) {
        of("low", { stroke: "transparent", width: 0, points: { show: false } });
        of("high", { stroke: "transparent", width: 0, points: { show: false } });
        bands.push({ series: [columns.high, columns.low], fill: color + "26" });
      }
    });
    if (data.kind === "heatmap") series.push({ label: "correct", scale: "y", paths: () => null, points: { show: false } });
    const axis = { stroke: theme.muted, font: `11px ${theme.font}`, ticks: { show: false }, border: { show: true, stroke: theme.line, width: 1 } };
    return {
      width: Math.max(this.plot.clientWidth, 100),
      height: this.height(),
      padding: [8 + lanesOf(data.spans).length * LANE, 12, 0, 0],
      legend: { show: false },
      series,
      bands,
      scales: {
        x: data.log_x ? { time: false, distr: 3, log: 2, range: (u, min, max) => aroundLog(min, max) } : { time: data.x_label === "time", range: (u, min, max) => widened(min, max) },
        y: { distr: data.log ? 3 : 1, range: (u, min, max) => this.rangeY(u, min, max) },
      },
      axes: [
        {
          ...axis, size: 22, grid: { show: false }, label: data.x_label, labelSize: 15, labelGap: 0, labelFont: `11px ${theme.font}`,
          incrs: INCREMENTS.filter((size) => size >= 1 || data.x_label !== "step"),
          space: 60,
          values: (u, ticks) => axisLabels(ticks, ""),
          ...(data.x_label === "time" ? clockAxis() : {}),
          ...(data.log_x ? { splits: (u) => u.data[0], filter: (u, splits) => splits } : {}),
        },
        {
          ...axis, scale: "y", size: (u, values) => axisWidth(u, values), grid: { stroke: theme.grid, width: 1, show: data.kind !== "heatmap" },
          space: 32,
          incrs: data.kind === "heatmap" ? [1, 2, 4, 8, 16, 32, 64, 128, 256] : undefined,
          values: (u, ticks) => axisLabels(ticks, data.log ? "log" : data.unit),
        },
      ],
      cursor: {
        y: false,
        points: { size: 7, show: data.kind !== "heatmap" },
        drag: { x: true, y: false, setScale: false },
        // The cursor is shared as it moves; a zoom is passed on by zoom(), once.
        sync: data.sync ? { key: data.sync, setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } } : undefined,
        dataIdx: (u, seriesIndex, index) => nearestDefined(u, seriesIndex, index),
        bind: { dblclick: () => () => (this.zoom(null), null) },
      },
      hooks: {
        setSelect: [(u) => this.selected(u)],
        setCursor: [(u) => this.drawTooltip(u)],
        drawClear: [(u) => drawSpans(u, this.data.spans, theme)],
        drawAxes: [(u) => drawZero(u, theme)],
        draw: [(u) => this.marks.place(u, this.data.spans, theme), data.kind === "heatmap" ? (u) => drawHeatmap(u, this.data, theme) : (u) => this.markOutside(u)],
      },
    };
  }

  // The axis without its outliers, where that is asked for and changes something.
  clipped(u) {
    if (!(this.data.clip > 0) || this.data.kind !== "lines") return null;
    const points = inView(this);
    const limits = quantileLimits(points.map(({ value }) => value), this.data.clip);
    this.outside = limits && outsideOf(points, ...this.padded(...limits));
    return limits;
  }

  padded(low, high) {
    if (this.data.log) return [low / 1.1, high * 1.1];
    const pad = (high - low) * 0.06;
    return [low - pad, high + pad];
  }

  markOutside(u) {
    if (this.outside) drawOutside(u, this.outside, (index) => this.data.series[index].color[this.theme.dark ? 1 : 0]);
    this.outsideNote.textContent = outsideText(this.outside, this.undrawable);
  }

  rangeY(u, min, max) {
    const { data } = this;
    if (data.kind === "heatmap") return [-0.5, heatmapRows(data) - 0.5];
    if (min === null || max === null) return data.log ? [0.1, 1] : [data.y_min ?? 0, data.y_max ?? 1];
    const limits = this.clipped(u);
    if (limits) return this.padded(...limits);
    if (data.log) return uPlot.rangeLog(min, max, 10, false);
    // A constant, give or take the rounding of an average, is a flat line and not a mountain range.
    const flat = max - min <= 1e-6 * Math.max(Math.abs(min), Math.abs(max));
    const pad = flat ? Math.abs(max) * 0.1 || (data.unit === "%" ? 0.01 : 1) : (max - min) * 0.06;
    // A fixed end gives way to values outside of it, since data is never cut off; and to lines that stay far from it,
    // since what happens among them is what one looks for. Areas begin at their end.
    const far = data.kind === "lines" && !flat && data.y_min !== null && min - data.y_min > 0.6 * (max - data.y_min);
    const low = data.y_min !== null && min >= data.y_min && !far ? data.y_min : min - pad;
    const high = data.y_max !== null && max <= data.y_max ? data.y_max : max + pad;
    return [low, high];
  }

  selected(u) {
    if (u.select.width < 4) return;
    const from = u.posToVal(u.select.left, "x");
    const to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.zoom([from, to]);
  }

  // Zooms every chart of the same sync group: they show the same steps.
  zoom(range) {
    const group = [...charts].filter((chart) => chart === this || (this.data.sync && chart.data.sync === this.data.sync));
    for (const chart of group) chart.showRange(range);
    const whole = this.data.x_label === "step";
    this.setStateValue("range", range && (whole ? [Math.floor(range[0]), Math.ceil(range[1])] : range));
  }

  showRange(range) {
    this.range = range;
    this.root.classList.toggle("zoomed", range !== null);
    this.root.dataset.range = range === null ? "" : range.map((x) => x.toFixed(2)).join(",");
    if (!this.u) return;
    const x = this.columns[0];
    const [min, max] = range ?? [x[0] ?? 0, x[x.length - 1] ?? 1];
    this.u.setScale("x", { min, max });
  }

  drawHead() {
    const { data } = this;
    const looks = JSON.stringify([data.title, data.subtitle, data.kind, this.theme.dark, data.series.map((line) => [line.label, line.color, line.dash])]);
    // Made anew only when they are others: a refresh must not take the focus from a chip, or a click that is half done.
    if (looks !== this.looks) {
      this.looks = looks;
      this.title.replaceChildren(element("span", "name", data.title), element("span", "subtitle", data.subtitle));
      this.chips = data.series.map((line) => this.chip(line));
      this.legend.replaceChildren(...this.chips.map(({ chip }) => chip));
    }
    data.series.forEach((line, index) => {
      const { chip, last } = this.chips[index];
      chip.classList.toggle("off", this.hidden.has(line.label));
      chip.setAttribute("aria-pressed", String(!this.hidden.has(line.label)));
      // Over time the newest value is the one to read, undefined told as it is; over k there is no newest.
      const newest = line.y[line.y.length - 1];
      last.hidden = newest === undefined || data.x_label === "k";
      last.textContent = formatNumber(newest, data.unit);
    });
    if (data.kind === "heatmap") this.legend.replaceChildren(heatmapKey(data, this.theme));
  }

  chip(line) {
    const chip = element("button", "chip");
    chip.type = "button";
    chip.title = "Click to hide or show; double-click to show this one alone";
    const mark = element("span", "mark");
    mark.style.borderTopColor = line.color[this.theme.dark ? 1 : 0];
    mark.style.borderTopStyle = line.dash ? "dashed" : "solid";
    const last = element("span", "last");
    chip.append(mark, element("span", "", line.label), last);
    chip.addEventListener("click", () => this.toggle(this.hidden.has(line.label) ? new Set([...this.hidden].filter((label) => label !== line.label)) : new Set([...this.hidden, line.label])));
    chip.addEventListener("dblclick", () => this.toggle(new Set(this.data.series.map((each) => each.label).filter((label) => label !== line.label))));
    return { chip, last };
  }

  toggle(hidden) {
    this.hidden = hidden;
    if (!this.u) return;
    this.u.batch(() => {
      this.data.series.forEach((line, index) => {
        for (const column of Object.values(this.lines[index])) this.u.setSeries(column, { show: !hidden.has(line.label) });
      });
    });
    this.drawHead();
  }

  drawTooltip(u) {
    const { idx, idxs, left } = u.cursor;
    // A synchronised chart shows its cursor line; only the chart under the mouse shows numbers.
    if (idx === null || idx === undefined || left < 0 || !u.over.matches(":hover")) {
      this.tooltip.style.display = "none";
      return;
    }
    const rows = this.data.kind === "heatmap" ? heatmapNotes(this.data, idx) : fewest(this.lineNotes(idxs));
    this.tooltip.replaceChildren(element("div", "at", this.data.x_label === "time" ? clockText(this.columns[0][idx]) : `${this.data.x_label} ${formatNumber(this.columns[0][idx], "")}`), ...rows);
    this.tooltip.style.display = "block";
    const box = u.over.getBoundingClientRect();
    const origin = this.plot.getBoundingClientRect();
    const offset = box.left - origin.left + left;
    const width = this.tooltip.offsetWidth;
    this.tooltip.style.left = `${offset + 14 + width < origin.width ? offset + 14 : Math.max(0, offset - 14 - width)}px`;
    this.tooltip.style.top = "10px";
  }

  lineNotes(idxs) {
    const rows = [];
    this.data.series.forEach((line, index) => {
      const { value, raw, low, high } = this.lines[index];
      const at = idxs?.[value];
      if (this.hidden.has(line.label) || at === null || at === undefined) return;
      const step = this.raw[0][at];
      const own = line.x.indexOf(step);
      if (own < 0) return;
      const row = element("div", "row");
      const mark = element("span", "mark");
      mark.style.borderTopColor = line.color[this.theme.dark ? 1 : 0];
      const notes = [];
      if (low && line.low[own] !== null) notes.push(`${formatNumber(line.low[own], this.data.unit)} to ${formatNumber(line.high[own], this.data.unit)}`);
      if (raw) notes.push(`raw ${formatNumber(line.y[own], this.data.unit)}`);
      if (line.notes) notes.push(line.notes[own]);
      row.append(mark, element("span", "", line.label), element("span", "value", formatNumber(this.raw[value][at], this.data.unit)), element("span", "note", notes.join(" · ")));
      rows.push(row);
    });
    return rows;
  }

  resize() {
    const width = this.plot.clientWidth;
    if (this.u && width > 0 && width !== this.u.width) this.u.setSize({ width, height: this.height() });
  }

  // Names of spans stand above the plotting area, which keeps its own height.
  height() {
    return this.data.height + lanesOf(this.data.spans).length * LANE;
  }

  destroy() {
    charts.delete(this);
    waiting.delete(this);
    sight.unobserve(this.root);
    this.observer.disconnect();
    this.u?.destroy();
    this.root.remove();
  }
}

// ---- details of lines ----

const MOST_NOTES = 24;
const MANY = 8; // lines, from where on thinner ones tell more; and one of a pixel is drawn five times as fast without a GPU

// A tooltip that is taller than the screen tells less than one that says how much it leaves out.
function fewest(rows) {
  return rows.length <= MOST_NOTES ? rows : [...rows.slice(0, MOST_NOTES), element("div", "note", `and ${rows.length - MOST_NOTES} more`)];
}

function sparse(u, seriesIndex, first, last) {
  return last - first < 40;
}

// A value between two gaps has no line to be seen by: it gets a point.
function lonely(u, seriesIndex, show) {
  if (show) return null;
  const column = u.data[seriesIndex];
  const [from, to] = u.series[0].idxs;
  const found = [];
  let before = null; // the value before this one, steps without any left out
  let candidate = -1;
  for (let i = from; i <= to; i++) {
    if (column[i] === undefined) continue;
    if (column[i] === null) {
      if (candidate >= 0) found.push(candidate);
      candidate = -1;
    } else candidate = before === null ? i : -1;
    before = column[i];
  }
  if (candidate >= 0) found.push(candidate);
  return found.length ? found : null;
}

function widened(min, max) {
  if (min === null || max === null) return [0, 1];
  return min === max ? [min - 1, max + 1] : [min, max];
}

// The ends of a logarithmic axis: a little beyond the first and the last point, which would be cut in half on the edge.
function aroundLog(min, max) {
  if (min === null || max === null) return [1, 2];
  const beyond = min === max ? 2 : (max / min) ** 0.04;
  return [min / beyond, max * beyond];
}

function axisWidth(u, values) {
  const longest = Math.max(0, ...(values ?? []).map((label) => label.length));
  return Math.max(34, 12 + longest * 6.6);
}

// Runs report different steps: the cursor reads each series at its own step nearest to the mouse, if one is near.
function nearestDefined(u, seriesIndex, index) {
  const column = u.data[seriesIndex];
  if (index === null || seriesIndex === 0 || column[index] !== undefined) return index;
  const x = u.data[0];
  const reach = (u.scales.x.max - u.scales.x.min) * 0.03;
  for (let away = 1; ; away++) {
    const before = index - away;
    const after = index + away;
    const near = (i) => i >= 0 && i < x.length && Math.abs(x[i] - x[index]) <= reach;
    if (!near(before) && !near(after)) return null;
    if (near(before) && column[before] !== undefined) return before;
    if (near(after) && column[after] !== undefined) return after;
  }
}

// ---- heatmap ----

const heatmapRows = (data) => Math.max(1, ...data.heatmap.z.map((counts) => counts.length));
const heatmapPeak = (data) => Math.max(1e-9, ...data.heatmap.z.flatMap(shares));

function heatmapColumns(data) {
  return [data.heatmap.x, data.heatmap.x.map(() => 0)];
}

function shares(counts) {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.map((count) => (total ? count / total : 0));
}

// One hue, from the page's background to full strength; the square root keeps small shares visible.
function heatColor(share, theme) {
  const t = Math.sqrt(Math.min(1, share));
  const [low, high] = theme.dark ? [[22, 30, 44], [120, 190, 255]] : [[245, 248, 252], [8, 70, 140]];
  return `rgb(${low.map((c, i) => Math.round(c + (high[i] - c) * t)).join(",")})`;
}

function drawHeatmap(u, data, theme) {
  const { x, z } = data.heatmap;
  const { ctx, bbox } = u;
  const peak = heatmapPeak(data);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const middle = (i) => (x[i] + x[i + 1]) / 2;
  for (let i = 0; i < x.length; i++) {
    // A column reaches half way to its neighbours, so that downsampled steps leave no stripes.
    const from = i > 0 ? middle(i - 1) : x.length > 1 ? x[0] - (x[1] - x[0]) / 2 : x[0] - 0.5;
    const to = i + 1 < x.length ? middle(i) : x.length > 1 ? x[i] + (x[i] - x[i - 1]) / 2 : x[0] + 0.5;
    const left = Math.floor(u.valToPos(from, "x", true));
    const right = Math.ceil(u.valToPos(to, "x", true));
    shares(z[i]).forEach((share, correct) => {
      const top = Math.floor(u.valToPos(correct + 0.5, "y", true));
      const bottom = Math.ceil(u.valToPos(correct - 0.5, "y", true));
      ctx.fillStyle = heatColor(share / peak, theme);
      ctx.fillRect(left, top, right - left, bottom - top);
    });
  }
  ctx.restore();
}

function heatmapNotes(data, index) {
  const counts = data.heatmap.z[index] ?? [];
  const part = shares(counts);
  return counts
    .map((count, correct) => ({ count, correct }))
    .reverse()
    .filter(({ count }) => count > 0)
    .map(({ count, correct }) => {
      const row = element("div", "row");
      row.append(element("span", "", `${correct} of ${counts.length - 1} correct`), element("span", "value", `${formatNumber(count, "")} groups`), element("span", "note", formatNumber(part[correct], "%")));
      return row;
    });
}

function heatmapKey(data, theme) {
  const key = element("div", "key");
  const ramp = element("span", "ramp");
  const stops = [0, 0.05, 0.2, 0.45, 0.7, 1].map((t) => `${heatColor(t, theme)} ${100 * t}%`);
  ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  const peak = data.heatmap.z.length ? formatNumber(heatmapPeak(data), "%") : "";
  key.append(element("span", "", "share of the step's groups: 0"), ramp, element("span", "", peak));
  return key;
}

// ---- page ----

const charts = new Set();

function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function readTheme(node) {
  const style = getComputedStyle(node);
  const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  const background = read("--st-background-color", "#ffffff");
  const [r, g, b] = rgb(background);
  const dark = r * 0.299 + g * 0.587 + b * 0.114 < 128;
  return {
    dark,
    background,
    text: read("--st-text-color", dark ? "#e6e9ef" : "#1c2230"),
    font: read("--st-font", "sans-serif"),
    muted: dark ? "#a3a8b4" : "#5c6270",
    line: dark ? "#454b58" : "#c9ced8",
    grid: dark ? "#2b303b" : "#eceff3",
  };
}

function rgb(color) {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = color;
  const hex = canvas.fillStyle;
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
