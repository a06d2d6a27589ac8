// Texts of the page that contrast less with what is behind them than WCAG 2 AA asks: "ratio color on background: text".
// Icons (a font's ligatures) are graphics; what is disabled is exempt.
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parsed = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => under.map((value, i) => top[i] * top[3] + value * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const outer = (node) => node.parentElement ?? node.getRootNode().host;
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = outer(at)) layers.unshift(parsed(getComputedStyle(at).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const found = [];
  const look = (root) => {
    for (const node of root.querySelectorAll("*")) {
      if (node.shadowRoot) look(node.shadowRoot);
      const text = [...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.data.trim()).join(" ").trim();
      const style = getComputedStyle(node);
      if (!text || style.visibility !== "visible" || node.getClientRects().length === 0) continue;
      if (node.closest("[disabled], [aria-disabled=true], [data-testid=stIconMaterial], style, script, canvas, [role=slider], [data-testid=stSlider]")) continue;
      if (style.fontFamily.includes("Material")) continue;
      let opacity = 1;
      for (let at = node; at; at = outer(at)) opacity *= Number(getComputedStyle(at).opacity);
      if (opacity < 0.05) continue;
      const ground = behind(node);
      const [r, g, b, a] = parsed(style.color);
      const ink = over([r, g, b, a * opacity], ground);
      const [light, dark] = [luminance(ink), luminance(ground)].sort((one, other) => other - one);
      const ratio = (light + 0.05) / (dark + 0.05);
      const large = parseFloat(style.fontSize) >= 24;
      if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${style.color} on ${ground.map(Math.round)}: ${text.slice(0, 40)}`);
    }
  };
  look(document);
  return found;
}
