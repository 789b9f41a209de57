// The graph: a view of the page. Its nodes are equations; of a large program, they are loops.
function graphView({ data, element, go, light, lines, select, state }) {
  const box = element("div", { class: "picture", html: data.graph });
  const picture = box.querySelector("svg"), nodes = [...box.querySelectorAll(".node")];
  const ofLoops = nodes.some((node) => node.id.startsWith("g-l"));
  const title = ofLoops ? "Graph of the loops" : "Graph of the value";
  picture.setAttribute("role", "group");
  picture.setAttribute("aria-label", title);
  picture.style.minWidth = `${0.75 * picture.viewBox.baseVal.width}pt`; // smaller than that, scroll
  for (const edge of box.querySelectorAll(".edge")) edge.setAttribute("aria-hidden", "true");

  /** The nodes that a node reads, or that read it, in the order of the picture. */
  const beside = (node, from, to) => [...box.querySelectorAll(`.edge.${from}-${node.id.slice(2)}`)].map((edge) =>
    document.getElementById(`g-${[...edge.classList].find((name) => name.startsWith(`${to}-`)).slice(to.length + 1)}`)).filter(Boolean);

  function name(node) {
    const id = node.id.slice(2), texts = [...node.querySelectorAll("text")].map((text) => text.textContent);
    if (lines.has(id)) texts[0] = lines.get(id).line.text.trim().replace(/\s+#.*$/, "");
    else if (!ofLoops && data.inputs[id.slice(1)]) texts[0] = `input ${data.inputs[id.slice(1)].name}`;
    else texts[0] = `input ${texts[0]}`;
    return texts.join(", ").replace("\u2202", "gradient");
  }

  /** An input has no line of its own: what reads it is lit. */
  function pointed(node) {
    const id = node.id.slice(2);
    if (lines.has(id)) light(id, false);
    else {
      light("", false);
      for (const reader of [node, ...beside(node, "from", "to")]) reader.classList.add(reader === node ? "on" : "lit");
    }
  }
  function left() {
    nodes.forEach((node) => node.classList.remove("on", "lit"));
    light(state.line, false);
  }
  function focused(node) {
    nodes.forEach((each) => each.setAttribute("tabindex", each === node ? "0" : "-1"));
    node.setAttribute("aria-label", name(node));
    if (lines.has(node.id.slice(2))) select(node.id.slice(2));
    else { select(""); pointed(node); }
  }
  function pressed(event, node) {
    const here = nodes.indexOf(node);
    const to = {
      ArrowRight: () => beside(node, "from", "to")[0], ArrowLeft: () => beside(node, "to", "from")[0],
      ArrowDown: () => nodes[here + 1], ArrowUp: () => nodes[here - 1], Home: () => nodes[0], End: () => nodes.at(-1),
    }[event.key]?.();
    if (event.key === "Enter" && lines.has(node.id.slice(2))) go(node.id.slice(2));
    else if (to) to.focus();
    else return;
    event.preventDefault();
  }

  nodes.forEach((node, k) => {
    node.setAttribute("tabindex", k ? "-1" : "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", name(node));
    node.addEventListener("mouseenter", () => pointed(node));
    node.addEventListener("mouseleave", left);
    node.addEventListener("focus", () => focused(node));
    node.addEventListener("dblclick", () => lines.has(node.id.slice(2)) && go(node.id.slice(2)));
    node.addEventListener("keydown", (event) => pressed(event, node));
  });
  const what = ofLoops
    ? "Each box is a loop, with how many equations it computes; arrows go from what is read to what reads it."
    : "Each box is an equation of the value, with its number and, behind \u2202, its gradient; arrows go from what is read to what reads it.";
  return element("div", { class: "graph view", "data-view": "graph" }, element("h2", { class: "quiet" }, title),
    element("p", { class: "caption" }, `${what} Boxes with a thick edge are inputs. The arrow keys walk along the arrows; Enter, or a double click, goes to the line.`), box);
}
