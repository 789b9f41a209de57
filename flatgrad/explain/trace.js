// The trace as a picture: a view of the page.
function traceView({ data, element, go, light, lines, state }) {
  const { spy } = data, mark = element("div", { class: "mark", hidden: "" });
  const image = element("img", { src: spy.url, width: spy.width, height: spy.height, alt: `${spy.equations} equations, from top to bottom, and the variables that each reads, from left to right, coloured by loop` });
  const at = (event) => Math.min(spy.height - 1, Math.max(0, Math.floor((event.offsetY / image.clientHeight) * spy.height)));
  image.addEventListener("mousemove", (event) => {
    const loop = spy.loops[spy.rows[at(event)]];
    mark.hidden = false;
    mark.style.top = `${(100 * at(event)) / spy.height}%`;
    mark.style.height = `max(2px, ${100 / spy.height}%)`;
    if (loop) light(loop, false);
  });
  image.addEventListener("mouseleave", () => { mark.hidden = true; light(state.line, false); });
  image.addEventListener("click", (event) => { const loop = spy.loops[spy.rows[at(event)]]; if (loop) go(loop); });
  const used = new Set(spy.used);
  const legend = spy.loops.map((id, k) => used.has(k) && lines.has(id) ? element("li", {}, element("button", { id: `legend-${id}`, click: () => go(id), mouseenter: () => light(id, false), mouseleave: () => light(state.line, false) },
    element("i", { style: `background: ${spy.colours[k]}` }), lines.get(id).line.text.trim().replace(/\s+#.*$/, ""))) : undefined);
  return element("div", { class: "spy view", "data-view": "trace" },
    element("figure", {}, element("div", { class: "picture" }, image, mark),
      element("figcaption", {}, `Each row is an equation of ${spy.equations.toLocaleString("en")}, from the first to the last; each dot a variable that it reads, of ${spy.variables.toLocaleString("en")}. Colours are loops. What repeats is a pattern; the gradient, below, mirrors the value, above.`)),
    element("ul", { class: "legend", "aria-label": "Loops" }, ...legend.filter(Boolean)));
}
