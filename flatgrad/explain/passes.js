// The passes one by one: a view of the page.
function passesView({ data, element, save, state }) {
  const { steps } = data;
  const changes = (step) => step.before !== step.after || step.unit[0] !== step.unit[1] || Object.values(step.counts).some(Boolean);
  const count = (number) => number.toLocaleString("en");
  const code = (text) => element("code", {}, text);
  const many = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;
  function became({ before, after, unit: [from, to] }) {
    if (before === after && from === to) return many(before, from);
    return `${many(before, from)} ${before === 1 ? "becomes" : "become"} ${from === to ? count(after) : many(after, to)}`;
  }
  const detail = element("div", { class: "detail", role: "tabpanel", id: "step", tabindex: "0" });
  const buttons = steps.map((step, k) =>
    element("button", {
      role: "tab", id: `step-${k}`, "aria-controls": "step", "aria-selected": "false", "aria-label": `${step.name.replaceAll("_", " ")}: ${became(step)}`, class: changes(step) ? "" : "same",
      click: () => { open(k); save(); }, keydown: (event) => pressed(event, k),
    },
    element("span", { class: "name" }, step.name.replaceAll("_", " ")),
    element("span", { class: "count" }, step.before === step.after ? count(step.after) : `${count(step.before)} \u2192 ${count(step.after)}`)));

  function pressed(event, k) {
    const to = { ArrowDown: k + 1, ArrowUp: k - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (buttons[to] === undefined) return;
    event.preventDefault();
    open(to);
    save();
    buttons[to].focus();
  }

  const heads = { constant: "const", merged: "same as", rewritten: "rewritten", gone: "unread", new: "new" };
  /** A line of the difference; what became of it is said in words, too. */
  function row({ text, kind, note }) {
    if (kind === "fold") return element("div", { class: "was fold" }, `\u22ef ${text} \u22ef`);
    return element("div", { class: `was code ${kind}` },
      element("span", { class: "mark" }, heads[kind] ?? ""),
      element(kind === "gone" || kind === "merged" || kind === "constant" ? "s" : "span", { class: "old" }, text),
      note ? element("span", { class: "note" }, note) : "");
  }

  const first = 40, few = 4; // so many rows of a table are shown at once; fewer others are not hidden
  function table(head, rows) {
    const cell = (item, tag, k) => element(tag, { ...(tag === "th" ? { scope: "col" } : {}), class: typeof rows[0][k] === "number" || typeof item === "number" ? "number" : "" },
      typeof item === "number" ? count(item) : tag === "td" && head[k] !== "your line" && item ? code(item) : item);
    const line = (each) => element("tr", {}, ...each.map((item, k) => cell(item, "td", k)));
    const body = element("tbody", {}, ...rows.slice(0, first).map(line));
    const region = element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Table: ${head.join(", ")}` }, element("table", {},
      element("thead", {}, element("tr", {}, ...head.map((item, k) => cell(item, "th", k)))), body));
    if (rows.length <= first + few) {
      body.append(...rows.slice(first).map(line));
      return region;
    }
    const more = element("button", { class: "more", "aria-expanded": "false", click: () => {
      const open = more.getAttribute("aria-expanded") === "false";
      if (open) body.append(...rows.slice(first).map(line));
      else while (body.children.length > first) body.lastChild.remove();
      more.setAttribute("aria-expanded", String(open));
      more.textContent = open ? `show the first ${first}` : `show all ${count(rows.length)} rows`;
    } }, `show all ${count(rows.length)} rows`);
    return element("div", {}, region, more);
  }

  function section(title, node) {
    return [element("h3", {}, title), node];
  }

  function open(k) {
    state.step = k;
    buttons.forEach((button, n) => {
      button.setAttribute("aria-selected", String(n === k));
      button.tabIndex = n === k ? 0 : -1;
    });
    const step = steps[k];
    detail.setAttribute("aria-labelledby", `step-${k}`);
    const counts = Object.entries(step.counts).filter(([, number]) => number);
    const rules = Object.entries(step.rules).map(([name, number]) => [name, step.identities[name] || "", number]);
    const [from] = step.unit;
    detail.replaceChildren(
      element("p", { class: "part" }, step.part),
      element("h2", {}, step.name.replaceAll("_", " ")), element("p", {}, step.about),
      element("p", {}, changes(step) ? (step.before === step.after && from === step.unit[1] ? `${many(step.before, from)}, as before.` : `${became(step)}.`) : "It changed nothing."),
      ...(counts.length ? [element("dl", {}, ...counts.flatMap(([name, number]) => [element("dt", {}, name), element("dd", {}, count(number))]))] : []),
      ...(rules.length ? section("Rules", table(["rule", "identity", from === "equation" ? "equations" : "packs"], rules)) : []),
      ...(step.table.length ? section("What it made", table(step.head, step.table)) : []),
      ...(step.rows.length ? section("Where it changed something", element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The program before, and what became of its equations" }, ...step.rows.map(row))) : []),
      ...(step.result.length ? section("The program behind it, numbered anew", element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The program behind it" }, ...step.result.map((text) => element("div", { class: "was code" }, text)))) : []));
  }

  const list = element("div", { class: "list", role: "tablist", "aria-label": "Passes", "aria-orientation": "vertical" });
  steps.forEach(({ part }, k) => {
    if (part !== steps[k - 1]?.part) list.append(element("p", { class: "part", role: "presentation" }, part));
    list.append(buttons[k]);
  });
  const node = element("div", { class: "steps view", "data-view": "passes" },
    element("div", {}, element("p", { class: "part" }, "The passes in the order in which they run, and how many equations there are before and behind each."), list), detail);
  return { node, open, begin: Math.max(0, steps.findIndex(changes)) };
}
