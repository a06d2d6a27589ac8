// Labels of an axis of seconds since 1970: the reader's clock, 24 hours, the date where the day changes.

const clockFormats = {};

function clockPart(seconds, parts) {
  const key = JSON.stringify(parts);
  clockFormats[key] ??= new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...parts });
  return clockFormats[key].format(new Date(seconds * 1000));
}

const clockDay = (seconds) => clockPart(seconds, { day: "numeric", month: "short" });
const clockMinute = (seconds) => clockPart(seconds, { hour: "2-digit", minute: "2-digit" });
const clockSecond = (seconds) => clockPart(seconds, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const clockText = (seconds) => `${clockDay(seconds)} ${clockSecond(seconds)}`;

function clockLabels(ticks, step) {
  return ticks.map((tick, index) => {
    const time = step < 60 ? clockSecond(tick) : step < 86400 ? clockMinute(tick) : "";
    const day = clockDay(tick);
    const changed = index > 0 && clockDay(ticks[index - 1]) !== day;
    return !time ? day : changed ? `${day} ${time}` : time;
  });
}

// What an axis over time has in place of one over steps.
function clockAxis() {
  return {
    incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000],
    space: 76,
    values: (u, ticks, axis, space, step) => clockLabels(ticks, step),
  };
}
