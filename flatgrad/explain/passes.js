"use strict";
// The passes one by one: a view of the page.
function passesView({ data, element, save, state }) {
  const changes = (step) => step.before !== step.after || Object.values(step.counts).some(Boolean);
  const detail = element("div", { class: "detail", "aria-live": "polite" });
  const buttons = data.steps.map((step, k) =>
    element("button", { role: "tab", "aria-selected": "false", click: () => { open(k); save(); } },
      element("span", { class: "name" }, step.name), element("span", { class: "count" }, step.before === step.after ? `${step.after}` : `${step.before} \u2192 ${step.after}`)));

  function open(k) {
    state.step = k;
    buttons.forEach((button, n) => button.setAttribute("aria-selected", String(n === k)));
    const step = data.steps[k];
    const counts = Object.entries(step.counts).filter(([, count]) => count);
    const rows = Object.entries(step.rules).map(([name, count]) =>
      element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, element("code", {}, step.identities[name] || "")), element("td", {}, `${count}\u00d7`)));
    const before = step.lines.map((line) => element("div", { class: `was code ${line.kind}` }, element("span", { class: "old" }, line.text), line.note ? element("span", { class: "note" }, `   ${line.note}`) : ""));
    const after = step.result.map((text) => element("div", { class: "was code" }, text.trim()));
    detail.replaceChildren(...[
      element("h2", {}, step.name), element("p", {}, step.about),
      counts.length ? element("dl", {}, ...counts.flatMap(([name, count]) => [element("dt", {}, name), element("dd", {}, count.toLocaleString("en"))])) : element("p", {}, step.name === "adjoint" ? `${step.before} equations become ${step.after}.` : "It changed nothing."),
      rows.length ? element("h3", {}, "Rules") : undefined, rows.length ? element("table", {}, ...rows) : undefined,
      before.length && after.length ? element("div", { class: "both" }, element("div", {}, element("h3", {}, "Before"), ...before), element("div", {}, element("h3", {}, "After"), ...after)) : undefined,
      before.some((node) => node.querySelector(".note")) && !after.length ? element("div", { class: "packed" }, element("h3", {}, "Statements, and what each is made of"), ...before) : undefined,
    ].filter(Boolean));
  }
  const node = element("div", { class: "steps view", "data-view": "passes" },
    element("ol", { role: "tablist", "aria-label": "Passes", "aria-orientation": "vertical" }, ...buttons.map((button, k) => element("li", { class: changes(data.steps[k]) ? "" : "same", role: "presentation" }, button))), detail);
  return { node, open, first: Math.max(0, data.steps.findIndex(changes)) };
}
