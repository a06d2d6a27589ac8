// The rollouts of one group. Every text is a stranger's: it is only ever set as textContent.
//
// `data` (built in dashboard/rollout_cards/__init__.py):
//   title, prompt, answer, needle, full_shade
//   cards: [{sample, correct, facts: [], advantage, completion, truncated, token_entropies: [], token_ends: []}]

export default function ({ parentElement, data }) {
  const root = element("div", "asym-group");
  root.append(element("div", "title", data.title));
  const asked = root.appendChild(element("div", "asked"));
  asked.append(labelled("Prompt", data.prompt, data.needle), labelled("Answer expected", data.answer, data.needle));
  const cards = root.appendChild(element("div", "cards"));
  const largest = Math.max(...data.cards.map((card) => Math.abs(card.advantage)), 0);
  for (const card of data.cards) cards.append(drawn(card, data, largest));
  if (data.cards.some((card) => card.token_entropies)) root.append(legend(data.full_shade));
  const before = parentElement.querySelector(".asym-group");
  if (before) before.replaceWith(root);
  else parentElement.append(root);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function labelled(label, text, needle) {
  const part = element("div");
  const box = element("div", "text");
  box.tabIndex = 0; // long ones scroll, by keyboard as well
  box.append(...marked(text, needle));
  part.append(element("div", "label", label), box);
  return part;
}

function drawn(card, data, largest) {
  const made = element("article", card.correct ? "card correct" : "card incorrect");
  made.setAttribute("aria-label", `sample ${card.sample}, ${card.correct ? "correct" : "incorrect"}`);
  const head = made.appendChild(element("div", "head"));
  head.append(element("span", "verdict", `${card.correct ? "✓ correct" : "✗ incorrect"}`));
  for (const fact of card.facts) head.append(element("span", "fact", fact));
  made.append(advantageBar(card.advantage, largest));
  const box = made.appendChild(element("div", "text"));
  box.tabIndex = 0;
  if (!card.completion) box.append(element("span", "nothing", "no text"));
  else if (card.token_entropies) box.append(...shaded(card, data));
  else box.append(...marked(card.completion, data.needle));
  if (card.truncated) box.append(element("span", "cut", " ⋯ cut here"));
  return made;
}

// To the right of the middle what is made more likely, to the left what is made less likely.
function advantageBar(advantage, largest) {
  const bar = element("div", "bar");
  bar.title = "its advantage beside the group's largest: to the right it is made more likely";
  const fill = bar.appendChild(element("div", "fill"));
  const share = largest > 0 ? (50 * Math.abs(advantage)) / largest : 0;
  fill.style.width = `${share}%`;
  fill.style.left = advantage >= 0 ? "50%" : `${50 - share}%`;
  fill.style.background = advantage >= 0 ? "#0072b2" : "#d55e00";
  return bar;
}

function shade(entropy, full) {
  return `rgba(213, 94, 0, ${(0.6 * Math.min(1, entropy / full)).toFixed(3)})`;
}

// Offsets count code points, as Python does; a JavaScript string counts UTF-16 units.
function shaded(card, data) {
  const letters = Array.from(card.completion);
  const hits = places(card.completion, data.needle);
  const parts = [];
  let start = 0;
  card.token_entropies.forEach((entropy, index) => {
    const end = card.token_ends[index];
    if (end <= start) return; // a special token, or a part of a character
    const token = element("span", "token");
    token.append(...pieces(letters, start, end, hits));
    token.style.background = shade(entropy, data.full_shade);
    token.title = `token ${index + 1}: entropy ${entropy.toFixed(3)} nats`;
    parts.push(token);
    start = end;
  });
  if (start < letters.length) parts.push(...pieces(letters, start, letters.length, hits));
  return parts;
}

function marked(text, needle) {
  const letters = Array.from(text);
  return pieces(letters, 0, letters.length, places(text, needle));
}

// Code points of `text` that belong to an occurrence of `needle`, in either case.
function places(text, needle) {
  const found = new Set();
  if (!needle) return found;
  const letters = Array.from(text, (letter) => letter.toLowerCase());
  const wanted = Array.from(needle, (letter) => letter.toLowerCase());
  for (let at = 0; at + wanted.length <= letters.length; at++)
    if (wanted.every((letter, index) => letters[at + index] === letter))
      for (let index = 0; index < wanted.length; index++) found.add(at + index);
  return found;
}

function pieces(letters, start, end, hits) {
  const parts = [];
  for (let at = start; at < end; ) {
    const hit = hits.has(at);
    let stop = at + 1;
    while (stop < end && hits.has(stop) === hit) stop++;
    const text = letters.slice(at, stop).join("");
    parts.push(hit ? element("mark", "", text) : document.createTextNode(text));
    at = stop;
  }
  return parts;
}

function legend(full) {
  const made = element("div", "legend");
  const ramp = element("span", "ramp");
  ramp.style.background = `linear-gradient(to right, ${shade(0, full)}, ${shade(full, full)})`;
  made.append("token entropy, nats: 0", ramp, `${full} and more`);
  return made;
}
