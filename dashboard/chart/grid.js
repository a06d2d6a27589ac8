// A table of numbers coloured by value: a sweep over two fields. Real cells, so it can be read without colours.
//
// `data`: title, subtitle, unit, rows: {field, values: [text]}, columns: {field, values: [text]},
//   cells: [[{value, note, text} | null, ...] per row]       Text is only ever set as textContent.

function drawGrid({ parentElement, data }) {
  parentElement.asymGrid ??= openGrid(parentElement);
  const { root, body } = parentElement.asymGrid;
  const theme = readTheme(root);
  root.classList.toggle("dark", theme.dark);
  const head = element("div", "head");
  const title = element("div", "title");
  title.append(element("span", "name", data.title), element("span", "subtitle", data.subtitle));
  head.append(title);
  const table = element("table", "grid");
  const fields = element("tr");
  fields.append(element("th", "field", data.rows.field), spanning(element("th", "field", data.columns.field), data.columns.values.length));
  const names = element("tr");
  names.append(element("th"), ...data.columns.values.map((text) => headed("col", text)));
  table.append(fields, names);
  const values = data.cells.flat().filter((cell) => cell).map((cell) => cell.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  data.rows.values.forEach((text, index) => {
    const row = element("tr");
    row.append(headed("row", text), ...data.cells[index].map((cell) => gridCell(cell, low, high, data.unit, theme)));
    table.append(row);
  });
  const scroll = element("div", "scroll");
  scroll.append(table);
  body.replaceChildren(head, scroll);
  root.dataset.cells = String(values.length);
}

function openGrid(parent) {
  const root = element("div", "asym-chart asym-grid");
  const style = document.createElement("style");
  style.textContent = STYLE;
  const body = element("div");
  root.append(body);
  parent.append(style, root);
  return { root, body };
}

function gridCell(cell, low, high, unit, theme) {
  const box = element("td");
  if (!cell) {
    box.textContent = "–";
    return box;
  }
  const share = high > low ? (cell.value - low) / (high - low) : 0.5;
  const color = heatColor(share * share, theme); // heatColor takes the root
  box.style.background = color;
  box.style.color = inkOn(color);
  box.append(element("span", "", formatNumber(cell.value, unit)), element("span", "count", cell.note));
  box.title = cell.text;
  box.tabIndex = 0;
  return box;
}

// Black or white, whichever contrasts more (WCAG): never below 4.5 : 1.
function inkOn(color) {
  const [r, g, b] = rgb(color).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return luminance > 0.179 ? "#000000" : "#ffffff";
}

function spanning(cell, columns) {
  cell.colSpan = columns;
  return cell;
}

function headed(scope, text) {
  const cell = element("th", "", text);
  cell.scope = scope;
  return cell;
}
