// Tells which button of the table before it Enter or the space bar was pressed on. The table draws on a canvas; for
// screen readers it keeps a real one, in which the chosen cell has the focus, and where its text is to be had.

// The real table follows the drawn one 200 ms after the last move: read at once, it would name the cell before.
const SETTLED = 400;

export default function (component) {
  const { columns } = component.data;
  const place = component.parentElement;
  const root = place.getRootNode();
  const here = root.host ?? place;
  place.asymKeys?.abort();
  const heard = (place.asymKeys = new AbortController());
  let soon = 0;

  const ours = (node) => {
    const table = node?.closest?.("[data-testid=stDataFrame]");
    const before = (each) => each.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING;
    return table && table === [...document.querySelectorAll("[data-testid=stDataFrame]")].filter(before).at(-1);
  };
  const tell = () => {
    const cell = document.activeElement?.closest("[role=gridcell]");
    if (ours(cell) && Number(cell.getAttribute("aria-colindex")) <= columns && cell.textContent)
      component.setTriggerValue("pressed", cell.textContent);
  };
  const listen = (event) => {
    clearTimeout(soon); // whoever goes on to another cell meant no button
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || event.repeat) return;
    if (["Enter", " "].includes(event.key) && event.target.matches?.("canvas, [role=gridcell]") && ours(event.target))
      soon = setTimeout(tell, SETTLED);
  };
  document.addEventListener("keydown", listen, { capture: true, signal: heard.signal });
  heard.signal.addEventListener("abort", () => clearTimeout(soon));
  return () => heard.abort();
}
