// The trace as a picture: a view of the page. Loops have colours that people with any colour vision can tell apart
// (after Okabe and Ito); there are few of these, so they come again, and what is pointed at is shown alone.
function traceView({ data, element, go, light, lines, state }) {
  const { spy } = data;
  const palettes = {
    light: { loops: ["#0072b2", "#d55e00", "#007a5e", "#b0578d", "#8c6d00", "#2b2f36"], none: "#767c87" },
    dark: { loops: ["#56b4e9", "#e69f00", "#2cc295", "#e58ac4", "#f0e442", "#e6e9ee"], none: "#9aa1ad" },
  };
  const shown = spy.loops.map((_, k) => k).filter((k) => spy.spans[k][0] && lines.has(spy.loops[k]));
  const order = new Map(shown.map((k, n) => [k, n]));
  const palette = () => palettes[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
  const colour = (k) => (order.has(k) ? palette().loops[order.get(k) % palette().loops.length] : palette().none);
  const count = (number) => number.toLocaleString("en");

  // --- the picture ---

  const title = `${count(spy.equations)} equations, from top to bottom, and the variables that each reads, from left to right; the table says which loop computes which`;
  const canvas = element("canvas", { width: spy.width, height: spy.height, role: "img", "aria-label": title });
  const mark = element("div", { class: "mark", hidden: "" });
  let dots; // of each pixel what it is, and two bytes of its loop
  let painted;
  const image = new Image();
  image.addEventListener("load", () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    dots = context.getImageData(0, 0, spy.width, spy.height).data.slice();
    paint(-1);
  });
  image.src = spy.url;

  /** Colour the dots: those of one loop, the others pale; or all, for -1. */
  function paint(only) {
    const { theme } = document.documentElement.dataset;
    if (!dots || painted === `${theme} ${only}`) return;
    painted = `${theme} ${only}`;
    const colours = new Map();
    const bytes = (k) => colours.get(k) ?? (colours.set(k, [1, 3, 5].map((at) => parseInt(colour(k).slice(at, at + 2), 16))), colours.get(k));
    const result = new ImageData(spy.width, spy.height);
    for (let at = 0; at < dots.length; at += 4) {
      if (!dots[at]) continue;
      const k = dots[at + 1] * 256 + dots[at + 2] - 1;
      result.data.set(bytes(k), at);
      result.data[at + 3] = only < 0 || only === k ? (dots[at] === 2 ? 150 : 255) : 40;
    }
    canvas.getContext("2d").putImageData(result, 0, 0);
  }

  const at = (event) => Math.min(spy.height - 1, Math.max(0, Math.floor((event.offsetY / canvas.clientHeight) * spy.height)));
  canvas.addEventListener("mousemove", (event) => {
    const k = spy.rows[at(event)];
    mark.hidden = false;
    mark.style.top = `${(100 * at(event)) / spy.height}%`;
    mark.style.height = `max(2px, ${100 / spy.height}%)`;
    if (spy.loops[k]) light(spy.loops[k], false);
  });
  canvas.addEventListener("mouseleave", () => { mark.hidden = true; light(state.line, false); });
  canvas.addEventListener("click", (event) => { const id = spy.loops[spy.rows[at(event)]]; if (id) go(id); });

  // --- the legend ---

  const swatches = new Map();
  const rows = shown.map((k) => {
    const id = spy.loops[k], [equations, first, last] = spy.spans[k];
    swatches.set(k, element("i", { "aria-hidden": "true" }));
    const pointed = () => light(id, false), left = () => light(state.line, false);
    return element("tr", { id: `legend-${id}`, mouseenter: pointed, mouseleave: left },
      element("td", {}, swatches.get(k)),
      element("td", {}, element("button", { click: () => go(id), focus: pointed, blur: left }, lines.get(id).line.text.trim().replace(/\s+#.*$/, ""))),
      element("td", { class: "number" }, count(equations)),
      element("td", { class: "number" }, first === last ? count(first + 1) : `${count(first + 1)} to ${count(last + 1)}`));
  });
  const alone = spy.equations - shown.reduce((sum, k) => sum + spy.spans[k][0], 0);
  if (alone) {
    swatches.set(-1, element("i", { "aria-hidden": "true" }));
    rows.push(element("tr", {}, element("td", {}, swatches.get(-1)), element("td", {}, "no loop, or several"), element("td", { class: "number" }, count(alone)), element("td", {})));
  }

  /** Follow the theme, and what is lit. */
  function refresh(lit = new Set()) {
    for (const [k, node] of swatches) node.style.background = colour(k);
    const own = shown.filter((k) => lit.has(spy.loops[k]));
    paint(own.length === 1 ? own[0] : -1);
  }
  const again = shown.length > palettes.light.loops.length ? ` There are ${palettes.light.loops.length} colours, which come again; point at a loop to see it alone.` : "";
  const node = element("div", { class: "spy view", "data-view": "trace" }, element("h2", { class: "quiet" }, "Trace"),
    element("figure", {}, element("div", { class: "frame" }, canvas, mark),
      element("figcaption", {}, `Each row is an equation, from the first to the last of ${count(spy.equations)}; each dot a variable that it reads, of ${count(spy.variables)}, and on the diagonal its result. Colours are loops.${again} What repeats is a pattern; the gradient, below, mirrors the value, above.`)),
    element("div", { class: "wide legend", tabindex: "0", role: "region", "aria-label": "Loops" }, element("table", {},
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "colour"), ...["loop", "equations", "which"].map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows))));
  return { node, refresh };
}
