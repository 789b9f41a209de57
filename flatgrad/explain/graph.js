// The graph of the value, whose nodes are equations: a view of the page.
function graphView({ data, element, go, light, lines, select, state }) {
  const box = element("div", { class: "graph view", "data-view": "graph", html: data.graph });
  const picture = box.querySelector("svg");
  picture.setAttribute("role", "group");
  picture.setAttribute("aria-label", "The graph of the value");
  picture.style.minWidth = `${0.6 * picture.viewBox.baseVal.width}pt`; // smaller than that, scroll
  for (const node of box.querySelectorAll(".node")) {
    const id = node.id.slice(2);
    if (!lines.has(id)) continue;
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", lines.get(id).line.text);
    node.addEventListener("mouseenter", () => light(id, false));
    node.addEventListener("mouseleave", () => light(state.line, false));
    node.addEventListener("focus", () => select(id));
    node.addEventListener("click", () => select(id));
    node.addEventListener("dblclick", () => go(id));
    node.addEventListener("keydown", (event) => { if (event.key === "Enter") go(id); });
  }
  return box;
}
