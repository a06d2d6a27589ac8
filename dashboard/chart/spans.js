// Shaded spans of the x axis: where an alert holds, where a run waited. Each kind (label) has a lane of its own above the
// plotting area, where its name stands; a name with a step is a link that asks for that step.

const LANE = 17; // pixels

const lanesOf = (spans) => [...new Set([...(spans ?? [])].sort((a, b) => b.low - a.low).map((span) => span.label))].reverse();

// Where a span stands between the ends of the axis, in pixels from the plotting area's left; null when it is out of sight.
function extent(u, span) {
  const left = Math.max(0, u.valToPos(Math.min(span.low, span.high), "x"));
  const right = Math.min(u.over.clientWidth, u.valToPos(Math.max(span.low, span.high), "x"));
  if (!Number.isFinite(left) || !Number.isFinite(right) || right < 0 || left > u.over.clientWidth) return null;
  return { left, width: Math.max(right - left, 3) };
}

function drawSpans(u, spans, theme) {
  if (!spans?.length || u.scales.x.min == null) return;
  const { ctx, bbox } = u;
  const ratio = u.pxRatio ?? uPlot.pxRatio;
  ctx.save();
  for (const span of spans) {
    const place = extent(u, span);
    if (!place) continue;
    const color = span.color[theme.dark ? 1 : 0];
    const left = bbox.left + place.left * ratio;
    const width = place.width * ratio;
    // Where several lie over one another the line beneath must still be seen.
    const deep = spans.filter((other) => other.low < span.high && other.high > span.low).length || 1;
    ctx.fillStyle = color + Math.round((theme.dark ? 52 : 38) / deep).toString(16).padStart(2, "0");
    ctx.fillRect(left, bbox.top, width, bbox.height);
    // Edges, so that a span is more than a shade.
    ctx.strokeStyle = color;
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    for (const x of [left, left + width]) {
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
  }
  ctx.restore();
}

// Above it something grows, below it something falls: where an axis has both, its zero is more than one of the lines.
function drawZero(u, theme) {
  const { min, max } = u.scales.y;
  if (!(min < 0 && max > 0)) return;
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(0, "y", true));
  ctx.save();
  ctx.strokeStyle = theme.muted;
  ctx.lineWidth = uPlot.pxRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

// The names, as elements over the canvas: they can be read aloud, focused and clicked.
class SpanMarks {
  constructor(ask) {
    this.ask = ask;
    this.root = element("div", "spans");
  }

  place(u, spans, theme) {
    const lanes = lanesOf(spans);
    const marks = [];
    for (const [lane, label] of lanes.entries()) {
      const mine = spans.filter((span) => span.label === label).map((span) => ({ span, place: extent(u, span) }));
      const seen = mine.filter(({ place }) => place).sort((a, b) => a.place.left - b.place.left);
      seen.forEach(({ span, place }, index) => {
        // A narrow one may write its name as far as the next one, or the end.
        const room = (seen[index + 1]?.place.left ?? u.over.clientWidth) - place.left - 2;
        marks.push(this.mark(span, theme, {
          left: u.over.offsetLeft + place.left,
          top: u.over.offsetTop - (lanes.length - lane) * LANE - 2,
          width: Math.max(8, Math.min(Math.max(place.width, 7 * label.length + 16), room)),
          narrow: place.width < 7 * label.length + 16,
        }));
      });
    }
    // Every redraw (a cursor over a synchronised chart, too) comes by here: nothing changes as long as nothing moved.
    const drawn = JSON.stringify(marks.map((mark) => mark.outerHTML));
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.root.replaceChildren(...marks);
  }

  mark(span, theme, at) {
    const link = span.step !== null && span.step !== undefined;
    const mark = element(link ? "a" : "span", at.narrow ? "span narrow" : "span", span.label);
    const color = span.color[theme.dark ? 1 : 0];
    Object.assign(mark.style, { left: `${at.left}px`, top: `${at.top}px`, width: `${at.width}px`, borderColor: color, backgroundColor: at.narrow ? "transparent" : color + "2e" });
    const whole = [span.label, span.note].filter(Boolean).join(": ");
    const steps = span.low === span.high ? `step ${formatNumber(span.low, "")}` : `steps ${formatNumber(span.low, "")} to ${formatNumber(span.high, "")}`;
    mark.title = link ? `${whole}, ${steps}. Click: the rollouts of step ${span.step}` : whole;
    if (link) {
      mark.href = span.href || "#";
      mark.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab
        event.preventDefault();
        this.ask(span.step);
      });
    }
    return mark;
  }
}
