"use strict";
// Numbers beside lines, and a slider through those of a line that made many; how many equations a line is.

/** What a page shows of numbers. `page` has `data`, `lines` by id, `numbers` (computed anew, or undefined), `element`, `shown` and `go`. */
function valuesOf(page) {
  const { data, lines, element, shown } = page;
  const kind = (id) => id[0], beginning = (text) => text.split(" = ")[0].trim();
  let place = 0, owner = ""; // which of the numbers of which line is looked at
  let now; // the equation that is marked

  /** The numbers that a line made: the first and the last ones of many. */
  function items(line) {
    if (line.result) return lines.has(line.result) ? [of(line.result)] : [];
    return itemsOf(line.results ?? []);
  }
  /** Those on the way to its own ones, as the sums of the first two, three, ... terms. */
  const passing = (line) => itemsOf(line.running ?? []);
  function itemsOf(list) {
    return list.map(([e, name, value, gradient]) => {
      const id = `e${e}`;
      if (lines.has(id)) return of(id);
      if (!page.numbers) return { id, name, value, gradient };
      if (e < 0) return { id, name }; // it is not known which equation it is
      const slope = data.javascript.gradients[id];
      return { id, name, value: page.numbers[data.javascript.inputs + e], gradient: slope === undefined ? gradient : page.numbers[slope] };
    });
  }
  function of(id) {
    const { line } = lines.get(id);
    return { id, name: beginning(line.text), value: line.value, gradient: line.gradient };
  }
  const count = (line, all) => line.count ?? all.length;
  const onTheWay = (line) => line["running count"] ?? (line.running ?? []).length;
  const text = (item, digits) => (item.value === undefined ? "?" : shown(item.value, digits));

  /** Write the numbers beside the lines of all texts. */
  function beside() {
    for (const { line, node } of lines.values()) {
      const box = kind(line.id) === "e" ? undefined : node.querySelector(".value"), all = box ? items(line) : [];
      if (!all.length || all.every((item) => item.value === undefined)) {
        if (box) box.textContent = "";
        continue;
      }
      const many = count(line, all) > 3, [first] = all, last = all[all.length - 1];
      box.classList.toggle("many", many);
      if (many) box.textContent = `${text(first, 4)} \u2026 ${text(last, 4)}  \u00d7${count(line, all).toLocaleString("en")}`;
      else if (all.length > 1) box.textContent = all.map((item) => text(item)).join(", ");
      else box.textContent = text(first) + (kind(line.id) === "s" && first.gradient !== undefined ? `   \u2202 ${shown(first.gradient)}` : "");
      if (line.running) box.append(element("span", { class: "running" }, `${line["running are"]}: ${onTheWay(line).toLocaleString("en")}`));
    }
  }

  function mark(id) {
    now?.classList.remove("now");
    now = id ? lines.get(id)?.node : undefined;
    now?.classList.add("now");
  }

  /** The numbers that the slider goes through: those that the line came to, then those on the way; each with its words. */
  function all(line) {
    const own = items(line), others = passing(line), total = count(line, own), passed = onTheWay(line);
    const numbered = (list, most, words) => list.map((item, k) => ({ item, words: words((k < list.length / 2 ? k + 1 : most - list.length + k + 1).toLocaleString("en"), most.toLocaleString("en")) }));
    return [...numbered(own, total, (k, of) => (total > 1 ? `${k} of ${of}: ` : others.length ? "the result: " : "")),
      ...numbered(others, passed, (k, of) => `${line["running are"].replace(/s$/, "")} ${k} of ${of}: `)];
  }

  /** A slider through the numbers of a line, if there are several. */
  function stepper(line) {
    const found = all(line), some = items(line), left = count(line, some) + onTheWay(line) - found.length;
    if (owner !== line.id) [owner, place] = [line.id, 0];
    mark();
    if (found.length < 2) return undefined;
    place = Math.min(place, found.length - 1);
    const range = element("input", { type: "range", min: 1, max: found.length, step: 1, value: place + 1, "aria-label": "Which of its values" });
    const output = element("output", {});
    const follow = element("button", { click: () => page.go(all(line)[place].item.id) }, "go there");
    const write = () => {
      const { item, words: which } = all(line)[place];
      const words = `${which}${item.name ? `${item.name} = ` : ""}${text(item, 17)}${item.gradient === undefined ? "" : `, gradient ${shown(item.gradient, 17)}`}`;
      output.textContent = words;
      range.setAttribute("aria-valuetext", words);
      follow.hidden = !lines.has(item.id);
      mark(item.id);
    };
    range.addEventListener("input", () => { place = Number(range.value) - 1; write(); });
    write();
    const note = left > 0 ? element("p", {}, "Of very many, the page has the first and the last ones.") : "";
    return element("div", { class: "stepper", role: "group", "aria-label": "The values of the line" }, element("label", {}, "value ", range), output, follow, note);
  }

  /** Go to another number of the line that is chosen; whether there is one. */
  function step(line, by) {
    const found = all(line);
    if (found.length < 2) return false;
    if (owner !== line.id) [owner, place] = [line.id, 0];
    place = Math.min(found.length - 1, Math.max(0, place + by));
    return true;
  }

  /** How much of all is done by a line, in words; and its share. */
  function cost(line, pane) {
    if (!line.cost) return undefined;
    const total = data.panes[pane].cost, share = line.cost / total, percent = 100 * share;
    const what = pane === "loops" ? "operations" : "equations";
    const words = `${line.cost.toLocaleString("en")} of ${total.toLocaleString("en")} ${what} (${percent < 0.1 ? "less than 0.1" : percent.toPrecision(percent < 10 ? 2 : 3).replace(/\.0+$/, "")} %)`;
    const parts = line["of value"] === undefined || line.cost === line["of value"] ? "" : `: ${line["of value"].toLocaleString("en")} of the value, ${(line.cost - line["of value"]).toLocaleString("en")} of its gradient`;
    const { lanes, rounds } = line;
    const lanewise = lanes === undefined ? "" : rounds === undefined ? `, in ${lanes.toLocaleString("en")} ${lanes === 1 ? "lane" : "lanes"}` : `, in ${rounds.toLocaleString("en")} rounds${lanes > rounds ? ` of ${(lanes / rounds).toLocaleString("en", { maximumFractionDigits: 1 })} lanes` : ""}`;
    return { share, words: words + parts + lanewise };
  }

  /** A bar as long as the share of a line, or the place for it. */
  function bar(line, pane) {
    const found = cost(line, pane), cell = element("span", { class: "cost", "aria-hidden": "true", title: found?.words });
    if (found) cell.append(element("i", { style: `width: ${Math.max(4, 100 * found.share)}%` }));
    return cell;
  }

  return { beside, stepper, step, cost, bar, mark };
}
