// What one does with a chart besides looking: zoom by keyboard, save it as a picture, fetch its numbers.

const PNG_SCALE = 2; // pixels of the picture per pixel of the page, at least
const HELP = "Drag to zoom. Keys: + and − zoom, arrows move, Escape or 0 shows everything.";

// Of a chart that can be zoomed (it has `reset`) and of a plane, which cannot.
function addTools(chart) {
  if (chart.reset) {
    chart.plot.tabIndex = 0;
    chart.plot.setAttribute("role", "group");
    chart.plot.addEventListener("keydown", (event) => zoomByKey(chart, event));
  }
  chart.csv = element("a", "tool", "CSV");
  chart.csv.title = "Every point of what is drawn here, not thinned";
  chart.csv.setAttribute("download", "");
  chart.png = element("button", "tool", "PNG");
  chart.png.type = "button";
  chart.png.title = "Save this chart as a picture";
  chart.png.addEventListener("click", () => savePicture(chart));
  const tools = element("span", "tools");
  tools.append(chart.csv, chart.png, ...(chart.reset ? [chart.reset] : []));
  chart.head.append(tools);
}

function describeTools(chart) {
  const { data } = chart;
  chart.csv.hidden = !data.csv;
  if (data.csv) chart.csv.href = data.csv;
  if (chart.reset) chart.plot.setAttribute("aria-label", `${data.title}: ${data.series.length} lines over ${data.x_label}. ${HELP}`);
}

function zoomByKey(chart, event) {
  if (!chart.u || event.ctrlKey || event.metaKey || event.altKey) return;
  const x = chart.columns[0];
  const whole = [x[0] ?? 0, x[x.length - 1] ?? 1];
  const [from, to] = chart.range ?? whole;
  const size = to - from;
  const moves = {
    Escape: () => null,
    0: () => null,
    "+": () => [from + size / 4, to - size / 4],
    "=": () => [from + size / 4, to - size / 4],
    "-": () => [from - size / 2, to + size / 2],
    ArrowLeft: () => [from - size / 4, to - size / 4],
    ArrowRight: () => [from + size / 4, to + size / 4],
  };
  const move = moves[event.key];
  if (!move || (event.key.startsWith("Arrow") && !chart.range)) return;
  event.preventDefault();
  const asked = move();
  // Not beyond the data: what is wider than it is all of it.
  const clipped = asked && [Math.max(asked[0], whole[0]), Math.min(asked[1], whole[1])];
  const all = !clipped || clipped[1] - clipped[0] >= whole[1] - whole[0] || clipped[1] <= clipped[0];
  chart.zoom(all ? null : clipped);
}

// ---- a picture: the chart as it stands, with its title and legend, on the page's background ----

function picture(chart) {
  const { data, theme } = chart;
  const drawn = chart.canvas ?? chart.u.ctx.canvas; // a plane draws on its own
  const scale = Math.max(PNG_SCALE, devicePixelRatio);
  const width = drawn.width / devicePixelRatio;
  const canvas = document.createElement("canvas");
  const ctx = canvas.getContext("2d");
  const small = `12px ${theme.font}`;
  ctx.font = small;
  const visible = data.series.filter((line) => !chart.hidden?.has(line.label));
  const rows = legendRows(ctx, visible.map((line) => line.label), width - 32);
  const top = 40 + rows.length * 18 + 8;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round((top + drawn.height / devicePixelRatio + 8) * scale);
  ctx.scale(scale, scale);
  ctx.fillStyle = theme.background;
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = theme.text;
  ctx.font = `600 15px ${theme.font}`;
  ctx.fillText(data.title, 16, 26);
  const after = 16 + ctx.measureText(data.title).width + 10;
  ctx.font = small;
  ctx.fillStyle = theme.muted;
  ctx.fillText(data.subtitle, after, 26);
  rows.forEach((row, number) => {
    for (const { index, left } of row) {
      const y = 40 + number * 18;
      ctx.strokeStyle = visible[index].color[theme.dark ? 1 : 0];
      ctx.lineWidth = 3;
      ctx.setLineDash(visible[index].dash ?? []);
      ctx.beginPath();
      ctx.moveTo(16 + left, y + 4);
      ctx.lineTo(16 + left + 18, y + 4);
      ctx.stroke();
      ctx.fillStyle = theme.text;
      ctx.fillText(visible[index].label, 16 + left + 24, y + 8);
    }
  });
  ctx.setLineDash([]);
  chart.drawKey?.(ctx, 16, 40);
  ctx.drawImage(drawn, 0, top, width, drawn.height / devicePixelRatio);
  return canvas;
}

// Which label stands where: [[{index, left}, ...] per row].
function legendRows(ctx, labels, width) {
  const rows = [[]];
  let left = 0;
  labels.forEach((label, index) => {
    const size = 24 + ctx.measureText(label).width + 18;
    if (left > 0 && left + size > width) {
      rows.push([]);
      left = 0;
    }
    rows[rows.length - 1].push({ index, left });
    left += size;
  });
  return rows;
}

async function savePicture(chart) {
  const blob = await new Promise((resolve) => picture(chart).toBlob(resolve, "image/png"));
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${chart.data.title.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+/, "") || "chart"}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}
