// Axis limits that a few outliers do not dictate. Nothing is dropped: what lies outside is marked at the edge and counted.

// The visible values of drawn lines, over the steps in view. (uPlot's own scales are not set yet when this is asked for.)
function inView({ columns: drawn, lines, hidden, data, range }) {
  const [min, max] = range ?? [-Infinity, Infinity];
  const x = drawn[0];
  const found = [];
  lines.forEach((columns, index) => {
    if (hidden.has(data.series[index].label)) return;
    for (const column of [columns.value, columns.raw]) {
      if (!column) continue;
      const values = drawn[column];
      for (let i = 0; i < x.length; i++) {
        const value = values[i];
        if (value !== null && value !== undefined && x[i] >= min && x[i] <= max) found.push({ at: x[i], value, index });
      }
    }
  });
  return found;
}

// [low, high] between which all but `share` of the values at each end lie; null where that cuts next to nothing off.
function quantileLimits(values, share) {
  if (values.length < 20) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (part) => sorted[Math.round(part * (sorted.length - 1))];
  const [low, high] = [at(share), at(1 - share)];
  const whole = sorted[sorted.length - 1] - sorted[0];
  // An axis that would hardly be longer with everything on it shows everything.
  return high > low && whole > 1.5 * (high - low) ? [low, high] : null;
}

function outsideOf(points, low, high) {
  return { above: points.filter(({ value }) => value > high), below: points.filter(({ value }) => value < low) };
}

// Small triangles at the edge, where points lie beyond it, in their line's colour.
function drawOutside(u, outside, colorOf) {
  const { ctx, bbox } = u;
  const size = 4 * devicePixelRatio;
  ctx.save();
  for (const [points, edge, way] of [[outside.above, bbox.top, 1], [outside.below, bbox.top + bbox.height, -1]]) {
    const taken = new Set();
    for (const { at, index } of points) {
      const left = Math.round(u.valToPos(at, "x", true) / size) * size;
      if (taken.has(left) || left < bbox.left || left > bbox.left + bbox.width) continue;
      taken.add(left);
      ctx.fillStyle = colorOf(index);
      ctx.beginPath();
      ctx.moveTo(left, edge);
      ctx.lineTo(left - size, edge + way * 1.6 * size);
      ctx.lineTo(left + size, edge + way * 1.6 * size);
      ctx.fill();
    }
  }
  ctx.restore();
}

function outsideText(outside, undrawable) {
  const parts = [];
  const points = (count) => `${count} point${count === 1 ? "" : "s"}`;
  if (outside?.above.length) parts.push(`▲ ${points(outside.above.length)} above the axis`);
  if (outside?.below.length) parts.push(`▼ ${points(outside.below.length)} below it`);
  if (undrawable) parts.push(`${points(undrawable)} at or below 0: not on a log axis`);
  return parts.join(" · ");
}

// On a log axis there is no place for what is not positive: a gap there, and counted.
function positiveOnly(columns) {
  let undrawable = 0;
  const drawn = columns.map((column, index) => {
    if (index === 0) return column;
    return column.map((value) => {
      if (value === null || value === undefined || value > 0) return value;
      undrawable++;
      return null;
    });
  });
  return { drawn, undrawable };
}
