// One metric over another, a point per step, coloured from the first to the last, with a smoother path through them.
//
// data.plane: {step: [], x: [], y: [], path_x: [], path_y: [], y_label}. No nulls: what is undefined has no place here.

const RAMP = {
  light: [[217, 140, 0], [178, 58, 110], [38, 34, 110]],
  dark: [[122, 108, 230], [232, 128, 180], [250, 228, 110]],
};
const PLANE_MARGIN = { left: 46, right: 14, top: 10, bottom: 34 };

function rampColor(share, dark) {
  const stops = dark ? RAMP.dark : RAMP.light;
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return `rgb(${stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (at - low))).join(",")})`;
}

// Round numbers from at most `low` to at least `high`, about `count` of them.
function roundTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function padded(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const pad = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - pad, high + pad];
}

class PlaneChart {
  constructor(parent) {
    this.root = element("div", "asym-chart");
    const style = document.createElement("style");
    style.textContent = STYLE;
    parent.append(style, this.root);
    this.head = element("div", "head");
    this.title = element("div", "title");
    this.head.append(this.title);
    this.legend = element("div", "legend");
    this.plot = element("div", "plot");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.tooltip = element("div", "tooltip");
    this.empty = element("div", "empty");
    this.plot.append(this.canvas, this.tooltip, this.empty);
    this.root.append(this.head, this.legend, this.plot);
    addTools(this);
    this.plot.addEventListener("mousemove", (event) => this.point(event));
    this.plot.addEventListener("mouseleave", () => (this.tooltip.style.display = "none"));
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.plot);
  }

  update(data) {
    const theme = readTheme(this.root);
    if (data === this.base && JSON.stringify(theme) === JSON.stringify(this.theme)) return; // nothing new
    this.base = this.data = data;
    this.theme = theme;
    this.root.classList.toggle("dark", this.theme.dark);
    const { step } = data.plane;
    this.title.replaceChildren(element("span", "name", data.title), element("span", "subtitle", data.subtitle));
    this.legend.replaceChildren(...(step.length ? [this.key()] : []));
    this.empty.textContent = step.length ? "" : data.empty;
    this.root.classList.toggle("without-data", step.length === 0);
    this.plot.style.height = `${data.height}px`;
    this.root.dataset.steps = String(step.length);
    this.root.dataset.last = String(step.length ? step[step.length - 1] : -1);
    this.root.dataset.updates = String(Number(this.root.dataset.updates ?? 0) + 1);
    describeTools(this);
    this.redraw();
  }

  // The same, in a picture: where `key` stands on the page.
  drawKey(ctx, left, top) {
    const { step } = this.data.plane;
    const write = (text) => {
      ctx.fillStyle = this.theme.muted;
      ctx.fillText(text, left, top + 8);
      left += ctx.measureText(text).width + 6;
    };
    if (step.length < 2) return write(`only step ${step[0]} has both`);
    write(`step ${step[0]}`);
    for (let i = 0; i < 90; i++) {
      ctx.fillStyle = rampColor(i / 89, this.theme.dark);
      ctx.fillRect(left + i, top - 1, 1.5, 10);
    }
    left += 96;
    write(`step ${step[step.length - 1]}; the line is a moving mean`);
  }

  key() {
    const { step } = this.data.plane;
    const key = element("div", "key");
    const ramp = element("span", "ramp");
    ramp.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((t) => rampColor(t, this.theme.dark)).join(",")})`;
    if (step.length === 1) {
      key.append(element("span", "", `only step ${step[0]} has both`));
      return key;
    }
    key.append(element("span", "", `step ${step[0]}`), ramp, element("span", "", `step ${step[step.length - 1]}; the line is a moving mean`));
    return key;
  }

  redraw() {
    const width = this.plot.clientWidth;
    if (!this.data || width === 0) return;
    const { height, plane } = this.data;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px`, display: "block" });
    this.places = [];
    if (!plane.step.length) return;
    const ctx = this.canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const [x0, x1] = padded(plane.x);
    const [y0, y1] = padded(plane.y);
    const inner = { width: width - PLANE_MARGIN.left - PLANE_MARGIN.right, height: height - PLANE_MARGIN.top - PLANE_MARGIN.bottom };
    const toX = (x) => PLANE_MARGIN.left + ((x - x0) / (x1 - x0)) * inner.width;
    const toY = (y) => PLANE_MARGIN.top + (1 - (y - y0) / (y1 - y0)) * inner.height;
    const last = plane.step[plane.step.length - 1];
    const share = (step) => (last === plane.step[0] ? 1 : (step - plane.step[0]) / (last - plane.step[0]));
    this.axes(ctx, inner, [x0, x1, toX], [y0, y1, toY]);
    this.diagonal(ctx, inner, toX, toY, Math.max(x0, y0), Math.min(x1, y1));

    this.places = plane.step.map((step, i) => ({ step, left: toX(plane.x[i]), top: toY(plane.y[i]), x: plane.x[i], y: plane.y[i] }));
    ctx.globalAlpha = plane.step.length > 60 ? 0.4 : 0.8;
    for (const { step, left, top } of this.places) dot(ctx, left, top, 2.2, rampColor(share(step), this.theme.dark));
    ctx.globalAlpha = 1;
    const path = plane.path_x.map((x, i) => [toX(x), toY(plane.path_y[i])]);
    ctx.lineWidth = 2.5;
    ctx.lineCap = "round";
    for (let i = 1; i < path.length; i++) {
      ctx.strokeStyle = rampColor(share(plane.step[i]), this.theme.dark);
      ctx.beginPath();
      ctx.moveTo(...path[i - 1]);
      ctx.lineTo(...path[i]);
      ctx.stroke();
    }
    const reach = Math.ceil(path.length / 12);
    this.end(ctx, path[0], path[reach] ?? path[0], path.length > 1 ? `start, step ${plane.step[0]}` : `step ${plane.step[0]}`, rampColor(0, this.theme.dark), false);
    if (path.length > 1) this.end(ctx, path[path.length - 1], path[path.length - 1 - reach] ?? path[0], `end, step ${last}`, rampColor(1, this.theme.dark), true);
    this.canvas.setAttribute("aria-label", `${this.data.title}: from ${formatNumber(plane.x[0], "")} informative and ${formatNumber(plane.y[0], "")} spurious at step ${plane.step[0]} to ${formatNumber(plane.x.at(-1), "")} and ${formatNumber(plane.y.at(-1), "")} at step ${last}`);
  }

  axes(ctx, inner, [x0, x1, toX], [y0, y1, toY]) {
    const { theme } = this;
    ctx.font = `11px ${theme.font}`;
    ctx.fillStyle = theme.muted;
    ctx.lineWidth = 1;
    const bottom = PLANE_MARGIN.top + inner.height;
    const xs = roundTicks(x0, x1, Math.max(2, inner.width / 90));
    const ys = roundTicks(y0, y1, Math.max(2, inner.height / 40));
    ctx.strokeStyle = theme.grid;
    ctx.beginPath();
    for (const x of xs) ctx.moveTo(toX(x), PLANE_MARGIN.top), ctx.lineTo(toX(x), bottom);
    for (const y of ys) ctx.moveTo(PLANE_MARGIN.left, toY(y)), ctx.lineTo(PLANE_MARGIN.left + inner.width, toY(y));
    ctx.stroke();
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    axisLabels(xs, "").forEach((label, i) => ctx.fillText(label, toX(xs[i]), bottom + 5));
    ctx.textAlign = "right";
    ctx.fillText(this.data.x_label, PLANE_MARGIN.left + inner.width, bottom + 19);
    ctx.textBaseline = "middle";
    axisLabels(ys, "").forEach((label, i) => ctx.fillText(label, PLANE_MARGIN.left - 6, toY(ys[i])));
    ctx.save();
    ctx.translate(9, PLANE_MARGIN.top);
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(this.data.plane.y_label, 0, 0);
    ctx.restore();
    ctx.strokeStyle = theme.line;
    ctx.strokeRect(PLANE_MARGIN.left, PLANE_MARGIN.top, inner.width, inner.height);
  }

  // Where both entropies are the same: above it incorrect rollouts are the less certain ones.
  diagonal(ctx, inner, toX, toY, low, high) {
    if (high <= low) return;
    ctx.save();
    ctx.strokeStyle = this.theme.line;
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(toX(low), toY(low));
    ctx.lineTo(toX(high), toY(high));
    ctx.stroke();
    ctx.restore();
  }

  // next: where the path goes on, away from which the name is written if there is room.
  end(ctx, [left, top], next, text, color, filled) {
    const background = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim() || "#ffffff";
    dot(ctx, left, top, 6.5, filled ? color : background);
    ctx.strokeStyle = filled ? background : color;
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.arc(left, top, 6.5, 0, 2 * Math.PI);
    ctx.stroke();
    ctx.font = `600 12px ${this.theme.font}`;
    const width = ctx.measureText(text).width;
    const roomRight = left + 12 + width < this.plot.clientWidth - PLANE_MARGIN.right;
    const roomLeft = left - 12 - width > PLANE_MARGIN.left;
    const right = roomRight && (next[0] < left || !roomLeft);
    ctx.textAlign = right ? "left" : "right";
    ctx.textBaseline = "middle";
    // A halo, so that the points behind do not run into the letters.
    ctx.lineWidth = 4;
    ctx.strokeStyle = background;
    ctx.lineJoin = "round";
    ctx.strokeText(text, right ? left + 11 : left - 11, top);
    ctx.fillStyle = getComputedStyle(this.root).color;
    ctx.fillText(text, right ? left + 11 : left - 11, top);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let nearest = null;
    for (const place of this.places ?? []) {
      const away = (place.left - x) ** 2 + (place.top - y) ** 2;
      if (away < 20 ** 2 && (!nearest || away < nearest.away)) nearest = { ...place, away };
    }
    if (!nearest) {
      this.tooltip.style.display = "none";
      return;
    }
    const row = (label, value) => {
      const node = element("div", "row");
      node.append(element("span", "", label.split(",")[0]), element("span", "value", formatNumber(value, "")));
      return node;
    };
    this.tooltip.replaceChildren(element("div", "at", `step ${nearest.step}`), row(this.data.x_label, nearest.x), row(this.data.plane.y_label, nearest.y));
    this.tooltip.style.display = "block";
    const width = this.tooltip.offsetWidth;
    this.tooltip.style.left = `${nearest.left + 14 + width < box.width ? nearest.left + 14 : Math.max(0, nearest.left - 14 - width)}px`;
    this.tooltip.style.top = `${Math.max(0, nearest.top - 30)}px`;
  }

  destroy() {
    this.observer.disconnect();
    this.root.remove();
  }
}

function dot(ctx, left, top, radius, color) {
  ctx.fillStyle = color;
  ctx.beginPath();
  ctx.arc(left, top, radius, 0, 2 * Math.PI);
  ctx.fill();
}
