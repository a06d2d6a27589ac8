// What has the focus, and whether a line around it, or around what it lies in, is there only because of that: an outline,
// shadow or border. Within a table it is a cell that is chosen, which the table draws. null: nothing on the page has it.
async () => {
  let node = document.activeElement;
  while (node.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  if (node === document.body) return null;
  const what = [node.tagName, node.dataset.testid, node.ariaLabel ?? node.innerText].join(" ").replace(/\s+/g, " ");
  if (node.closest("[data-testid=stDataFrame]") && node.matches("canvas, [role=gridcell]")) return ["a table", true];
  const lines = () => {
    const found = [];
    for (let at = node, i = 0; at && i < 5; at = at.parentElement ?? at.getRootNode().host, i++)
      for (const part of [null, "::before", "::after"]) {
        const { outlineStyle, outline, boxShadow, borderColor } = getComputedStyle(at, part);
        found.push(outlineStyle === "none" ? "" : outline, boxShadow, borderColor);
      }
    return found.join(";");
  };
  const drawn = async () => {
    for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
    const ending = document.getAnimations().filter((each) => each instanceof CSSTransition);
    await Promise.all(ending.map((each) => each.finished.catch(() => null)));
  };
  await drawn();
  const focused = lines();
  node.blur();
  await drawn();
  const without = lines();
  node.focus({ focusVisible: true, preventScroll: true });
  return [what.slice(0, 80), focused !== without];
}
