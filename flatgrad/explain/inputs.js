// Inputs that can be moved: the program is computed again in the page.

/** The row of sliders. `page` has `data`, `element`, `shown`, and `changed`, which is called with the numbers of all variables. */
function inputsOf(page) {
  const { data, element, shown } = page;
  const compute = data.javascript.code ? new Function(`return ${data.javascript.code}`)() : undefined;
  const special = { inf: Infinity, "-inf": -Infinity, nan: NaN };
  const starts = data.inputs.map(({ value }) => (value in special ? special[value] : Number(value)));
  const numbers = [...starts];
  const most = 24; // of more inputs, one is chosen
  const controls = new Map(); // by input: what writes its numbers anew

  function recompute() {
    const all = compute(numbers), { gradients } = data.javascript;
    tell(data.javascript.checks.some((condition) => all[condition] >= 1));
    data.inputs.forEach((input, k) => { if (`i${k}` in gradients) input.gradient = all[gradients[`i${k}`]]; });
    controls.forEach((write) => write());
    page.changed(all);
  }

  const told = element("p", { "aria-live": "polite" });
  const notes = [data.javascript.near, data.guards ? "Conditions are those of the way that was traced, whatever the numbers." : ""].filter(Boolean).join(" ");
  /** What is to be known of the numbers; in its place, that Python would not come to them. */
  function tell(isAway) {
    told.classList.toggle("away", isAway);
    told.textContent = isAway ? "At these numbers the function raises an error, or goes another way than that of this page: it does not come to what is shown." : notes;
  }

  function control(k) {
    const input = data.inputs[k], start = starts[k], reach = Number.isFinite(start) ? Math.max(1, 2 * Math.abs(start)) : 0;
    const whole = input.length !== undefined, [low, high] = whole ? [-input.length, input.length - 1] : reach ? [start - reach, start + reach] : [-1, 1];
    const step = whole ? 1 : "any", value = () => (Number.isFinite(numbers[k]) ? numbers[k] : undefined);
    const range = element("input", { type: "range", min: low, max: high, step, value: value() ?? 0, "aria-label": `${input.name}, slider` });
    const box = element("input", { type: "number", step, ...(whole ? { min: low, max: high } : {}), value: value(), placeholder: shown(start), "aria-label": input.name });
    const slope = element("span", { class: "bar" });
    const write = () => { range.setAttribute("aria-valuetext", shown(numbers[k])); slope.textContent = input.gradient === undefined ? "" : `gradient ${shown(input.gradient)}`; };
    const change = (node) => { if (node.value !== "" && node.validity.valid) { numbers[k] = Number(node.value); (node === range ? box : range).value = node.value; recompute(); } };
    range.addEventListener("input", () => change(range));
    box.addEventListener("input", () => change(box));
    controls.set(k, write);
    write();
    return element("label", {}, element("code", {}, input.name), range, box, slope);
  }

  /** The way that the page is of, and the others that are known: the truth values of conditions, line by line. */
  function known() {
    const cell = (...parts) => element("td", {}, ...parts);
    const rows = data.ways.flatMap(({ here, calls, lines }, k) => lines.map(([place, truths, id], n) => element("tr", here ? { class: "here" } : {},
      cell(n ? "" : here ? `${k + 1}, this page` : String(k + 1)), cell(n || calls === null ? "" : calls.toLocaleString("en")),
      cell(id ? element("button", { click: () => page.go(id) }, place) : place), cell(truths))));
    const titles = ["way", "calls", "line", "truth values"].map((title) => element("th", { scope: "col" }, title));
    const count = data.ways.length;
    const summary = count > 1 ? `The page is of one of ${count} ways: what conditions were` : "The way of this page: what conditions were";
    return element("details", { class: "known" }, element("summary", {}, summary),
      element("table", {}, element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...rows)));
  }

  function row() {
    const box = element("div", { class: "inputs", role: "group", "aria-label": "Inputs" });
    const say = (text) => box.append(element("p", {}, text));
    if (data.note) say(data.note);
    if (data.ways.length) box.append(known());
    if (data.error) say(`There are no values at the inputs that are known: ${data.error}`);
    if (!compute) {
      if (data.javascript.why && !data.error) say(`The inputs have no sliders: ${data.javascript.why}.`);
      return box;
    }
    const place = element("div", { class: "movable" });
    const reset = element("button", { click: () => { numbers.splice(0, numbers.length, ...starts); fill(); recompute(); } }, "reset");
    const names = data.inputs.map((input, k) => element("option", { value: k }, input.name));
    const which = data.inputs.length > most ? element("select", { "aria-label": "Which input", change: () => fill() }, ...names) : undefined;
    const fill = () => {
      controls.clear();
      place.replaceChildren(...(which ? [control(Number(which.value))] : data.inputs.map((_, k) => control(k))), reset);
    };
    fill();
    if (which) box.append(element("label", { class: "which" }, `one of ${data.inputs.length.toLocaleString("en")} inputs `, which));
    box.append(place);
    box.append(told);
    tell(false);
    return box;
  }

  return { row, numbers };
}
