// Shows what is in the element "data". The texts are lines; lines have ids, and name the ids of those that they came
// from and became. Equations, e0, e1, ..., are in the middle: every other line is linked to them. The views of passes,
// of the graph and of the trace are in files of their own, which stand before this one.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const names = Object.keys(data.panes);
  const language = { python: "flat Python", numpy: "NumPy", native: "machine code" }[data.backend];
  const lines = new Map(); // by id: { pane, line, node }
  const state = { view: "code", panes: [], current: "", line: "", step: 0, theme: "" };
  const narrow = window.matchMedia("(max-width: 900px)");

  /** An element: its tag, attributes (functions are listeners), and what is in it. */
  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (name === "html") node.innerHTML = value; // coloured code: escaped where the page was written
      else if (value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== undefined && child !== ""));
    return node;
  }

  function shown(number, digits = 6) {
    if (typeof number === "boolean") return number ? "True" : "False";
    if (typeof number !== "number") return String(number);
    if (!Number.isFinite(number)) return number !== number ? "nan" : number > 0 ? "inf" : "-inf";
    const text = String(number);
    if (text.length <= digits + 2) return Object.is(number, -0) ? "-0" : text;
    return String(Number(number.toPrecision(digits)));
  }

  const page = { changed, data, element, go, light, lines, names, save, select, shown, state };
  const values = valuesOf(page), inputs = inputsOf(page);

  // --- links ---------------------------------------------------------------------------------------------------------

  const kind = (id) => id[0];
  const linked = (id, of) => (lines.get(id)?.line.links ?? []).filter((other) => kind(other) === of);

  /** What is lit when a line is pointed at: the same numbers elsewhere, and the equations of their adjoints. */
  function related(id) {
    const lit = new Set([id]), kin = new Set();
    const add = (ids) => ids.forEach((each) => lit.add(each));
    const equations = kind(id) === "e" ? [id] : kind(id) === "a" ? linked(id, "l").flatMap((l) => (lit.add(l), linked(l, "e"))) : linked(id, "e");
    add(equations);
    for (const e of equations) {
      for (const of of "spl") if (of !== kind(id)) add(linked(e, of));
      linked(e, "e").forEach((other) => kin.add(other));
    }
    if (kind(id) !== "a") for (const l of [...lit].filter((each) => kind(each) === "l")) add(linked(l, "a"));
    lit.forEach((each) => kin.delete(each));
    return { lit, kin };
  }

  // --- panes ---------------------------------------------------------------------------------------------------------

  const gradient = Object.values(data.panes.program.lines).some((line) => "gradient" in line);
  const hints = {
    source: `What you wrote. Beside a line stands its number${gradient ? ", and behind \u2202 its gradient" : ""}; \u00d7100 says that it ran so often.`,
    program: `Each operation is an equation.${gradient ? " The adjoint, which computes the gradient, stands below." : ""}`,
    python: "The program as functions of plain Python, simplified.",
    loops: "The program rolled up: a line computes all numbers of an array.",
    assembly: "The processor's instructions. Click a function to open it.",
  };
  const bars = " The bar is its share of the work.";
  const panes = {}, badges = {};
  function pane(name) {
    const { title, lines: texts } = data.panes[name];
    const sheet = element("div", { class: "sheet code" });
    const list = element("div", {
      class: "lines", role: "listbox", tabindex: "0", "aria-label": title, "aria-describedby": `hint-${name} keys`,
      keydown: (event) => pressed(event, name), focus: () => entered(name),
    }, sheet);
    if (name === "program" && texts.some((line) => "value" in line)) {
      sheet.append(element("div", { class: "line columns", "aria-hidden": "true" }, element("span", { class: "what" }),
        element("span", { class: "value" }, "value"), element("span", { class: "slope" }, texts.some((line) => "gradient" in line) ? "gradient" : "")));
    }
    let section;
    const costly = (name === "source" || name === "loops") && data.panes[name].cost > 0;
    texts.forEach((line) => {
      const classes = ["line", line.head ? "head" : "", line.fold ? "fold" : ""].join(" ");
      const node = element("div", { class: classes });
      if (costly) node.append(values.bar(line, name));
      if (line.number !== undefined) node.append(element("span", { class: "ln" }, String(line.number)));
      node.append(element("span", { class: "what", html: line.html || " " }));
      line.text = node.querySelector(".what").textContent;
      if (name === "program" && line.id) {
        node.append(element("span", { class: "value" }, line.value === undefined ? "" : shown(line.value)),
          element("span", { class: "slope" }, line.gradient === undefined ? "" : shown(line.gradient)));
      } else if (line.result || line.results) node.append(element("span", { class: "value" }));
      if (name === "assembly" && line.head) {
        node.querySelector(".what").textContent = `${line.text.replace(/:$/, "")}  \u00b7  ${line.instructions} instructions`;
        section = element("div", { class: "section", hidden: "" });
        const own = section;
        node.addEventListener("click", () => { own.hidden = !own.hidden; });
        sheet.append(node, section);
      } else (name === "assembly" && section ? section : sheet).append(node);
      if (line.id) {
        node.id = line.id;
        node.setAttribute("role", "option");
        node.setAttribute("aria-selected", "false");
        lines.set(line.id, { pane: name, line, node, section });
        node.addEventListener("mouseenter", () => light(line.id, false));
        node.addEventListener("click", () => select(line.id, name));
      }
    });
    list.addEventListener("mouseleave", () => light(state.line, false));
    badges[name] = element("button", { hidden: "", click: () => reveal(name) });
    panes[name] = element("section", { class: "pane", "data-pane": name, "aria-label": title },
      element("h2", {}, title, badges[name]),
      element("p", { class: "hint", id: `hint-${name}` }, hints[name] + (costly ? bars : "")), list);
    return panes[name];
  }

  const first = (name, of = ".on, .lit:not(.head)") => panes[name].querySelector(of) ?? panes[name].querySelector(".lit");
  function reveal(name) {
    const node = panes[name].querySelector(".on") ?? first(name);
    if (!node) return;
    const list = panes[name].querySelector(".lines"), box = list.getBoundingClientRect(), own = node.getBoundingClientRect();
    if (own.top < box.top + 24 || own.bottom > box.bottom - 8) list.scrollTop += own.top - box.top - box.height / 3;
    if (own.left < box.left) list.scrollLeft = 0;
  }

  let marked = [], drawn; // the picture of the trace, once it is there
  /** Light up a line and what belongs to it; with `follow`, scroll the panes there. */
  function light(id, follow) {
    marked.forEach((node) => node.classList.remove("on", "lit", "kin"));
    marked = [];
    const mark = (node, name) => { if (node) { node.classList.add(name); marked.push(node); } };
    const { lit, kin } = lines.has(id) ? related(id) : { lit: new Set(), kin: new Set() };
    for (const each of kin) mark(lines.get(each)?.node, "kin");
    for (const each of lit) {
      mark(lines.get(each)?.node, each === id ? "on" : "lit");
      mark(document.getElementById(`g-${each}`), each === id ? "on" : "lit");
      mark(document.getElementById(`legend-${each}`), each === id ? "on" : "lit");
    }
    for (const name of names) {
      const count = [...lit].filter((each) => lines.get(each)?.pane === name).length;
      badges[name].hidden = !count;
      badges[name].textContent = count === 1 ? "1 line \u2193" : `${count} lines \u2193`;
      panes[name].querySelector(".lines").classList.toggle("quiet", !lit.size);
    }
    if (drawn) drawn.refresh(lit);
    inspect(id); // it takes room of the panes
    if (follow) {
      for (const each of lit) if (kind(each) === "a" && lit.size < 40) lines.get(each).section.hidden = false;
      names.forEach(reveal);
    }
  }

  /** Choose a line, so that it stays lit. */
  function select(id, name = lines.get(id)?.pane) {
    lines.get(state.line)?.node.setAttribute("aria-selected", "false");
    state.line = id;
    const entry = lines.get(id);
    if (entry) {
      entry.node.setAttribute("aria-selected", "true");
      panes[name].querySelector(".lines").setAttribute("aria-activedescendant", id);
    }
    light(id, true);
    announce(id);
    save();
  }

  /** Say to those who cannot see it what was chosen, and what was lit up. */
  function announce(id) {
    if (!lines.has(id)) { spoken.textContent = ""; return; }
    const { lit } = related(id);
    const counts = names.map((name) => [data.panes[name].title, [...lit].filter((each) => each !== id && lines.get(each)?.pane === name).length]);
    const parts = counts.filter(([, count]) => count).map(([title, count]) => `${count} ${count === 1 ? "line" : "lines"} of ${title}`);
    const text = lines.get(id).node.querySelector(".what").textContent.trim();
    spoken.textContent = `${titles[kind(id)]} ${text.length > 60 ? `${text.slice(0, 57)}...` : text}. ${parts.length ? `Lit up: ${parts.join(", ")}.` : "Nothing belongs to it."}`;
  }

  function go(id) {
    const { pane: name } = lines.get(id);
    show("code");
    if (narrow.matches) current(name);
    else if (!state.panes.includes(name)) toggle(name);
    select(id, name);
    panes[name].querySelector(".lines").focus({ preventScroll: true });
  }

  // --- keys ----------------------------------------------------------------------------------------------------------

  const options = (name) => [...panes[name].querySelectorAll("[role=option]")].filter((node) => node.offsetParent !== null);

  function entered(name) {
    if (lines.get(state.line)?.pane === name) return;
    const counterpart = first(name, ".lit") ?? options(name)[0];
    if (counterpart && !pointing) select(counterpart.id, name);
  }
  let pointing = false;
  document.addEventListener("pointerdown", () => { pointing = true; });
  document.addEventListener("pointerup", () => { setTimeout(() => { pointing = false; }); });

  function pressed(event, name) {
    const all = options(name), here = all.findIndex((node) => node.id === state.line);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -Infinity, End: Infinity };
    if (event.key in steps && all.length) {
      const place = Math.min(all.length - 1, Math.max(0, here < 0 ? 0 : here + steps[event.key]));
      select(all[place].id, name);
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const visible = narrow.matches ? names : state.panes;
      const next = visible[visible.indexOf(name) + (event.key === "ArrowRight" ? 1 : -1)];
      if (!next) return;
      if (narrow.matches) current(next);
      panes[next].querySelector(".lines").focus({ preventScroll: true });
    } else if (event.key === "Enter" || event.key === " ") {
      const own = lines.get(state.line);
      if (own?.section && kind(state.line) === "a") own.section.hidden = !own.section.hidden;
    } else if ((event.key === "[" || event.key === "]") && here >= 0) {
      if (values.step(lines.get(state.line).line, event.key === "]" ? 1 : -1)) inspect(state.line);
    } else if (event.key === "Escape") select("");
    else return;
    event.preventDefault();
  }

  // --- what is known of a line -----------------------------------------------------------------------------------------

  const inspector = element("section", { class: "inspector", tabindex: "0", "aria-label": "The chosen line" });
  const spoken = element("div", { class: "spoken", role: "status", "aria-live": "polite" });
  const titles = { s: "your line", e: "equation", p: "flat Python", l: "loop", a: "instructions" };

  function inspect(id) {
    const entry = lines.get(id);
    if (!entry) {
      values.mark();
      inspector.replaceChildren(element("p", {}, "Here stands what is known of the line that you point at or choose: its numbers, the rule that made it, its share of the work, and the lines that it came from and became."),
        element("p", {}, `Why it runs as ${language}: ${data.reason}.`));
      return;
    }
    const { line } = entry, facts = [];
    const fact = (...parts) => facts.push(element("p", {}, ...parts));
    const code = (text) => element("code", {}, text), bold = (text) => element("b", {}, text);
    if (line.value !== undefined) {
      fact("value ", code(shown(line.value, 17)), ...(line.gradient !== undefined ? [", gradient ", code(shown(line.gradient, 17))] : []));
    }
    if (line.rule !== undefined) {
      const { row, operand, partial, receives, of } = data.rules[line.rule];
      if (of === "tangent") fact("rule of ", bold(row), ": the tangent of ", code(operand), " gives ", code(receives), " to that of the result");
      else fact("rule of ", bold(row), ": ", code(operand), " receives ", code(receives));
      if (line.lost) fact("the equation that it is the rule of is not computed here");
      if (partial) fact("partial ", code(`\u2202out/\u2202${operand} = ${partial}`), line.how === "sum" ? "; here it is added to what was received before" : "");
    } else if (line.how === "check") fact("raises where the function would, or where the numbers went another way");
    else if (line.how === "selected") fact("the tangent of what is selected");
    else if (line.how === "result") fact(`the finished ${line.of ?? "gradient"}`, ...(line.receiver ? [" of ", code(line.receiver)] : []), ", added to +0.0 as in the interpreter");
    if (line.receiver && line.how === "rule") fact(`for the ${line.of ?? "gradient"} of `, code(line.receiver));
    for (const [number, here, truths] of line.ways ?? []) fact(here ? "on the way of this page: " : `on way ${number}: `, code(truths));
    if (line.gone) fact("flat Python does not compute it: ", line.gone);
    if (line.instructions) fact(`${line.instructions} instructions`);
    const cost = values.cost(line, entry.pane), stepper = values.stepper(line);
    if (cost) fact(cost.words);
    if (stepper) facts.push(stepper);
    const { lit, kin } = related(id);
    const ways = names.map((name) => {
      const ids = [...lit].filter((each) => each !== id && lines.get(each)?.pane === name);
      return list(data.panes[name].title, ids);
    });
    const primal = line.part === "value" ? "Its adjoint" : "Belongs to";
    ways.splice(2, 0, list(kind(id) === "e" ? primal : "Adjoints", kind(id) === "e" ? [...kin] : []));
    inspector.replaceChildren(
      element("div", {}, element("h2", {}, entry.node.querySelector(".what").textContent.trim()), element("p", {}, titles[kind(id)]), ...facts),
      element("div", { class: "ways" }, ...ways.filter(Boolean)));
  }

  function list(title, ids, most = 4) {
    if (!ids.length) return undefined;
    const buttons = ids.slice(0, most).map((id) =>
      element("button", { click: () => go(id), title: lines.get(id).line.text.trim() }, lines.get(id).node.querySelector(".what").textContent.trim()));
    return element("div", {}, element("h3", {}, title), ...buttons, ids.length > most ? element("span", {}, `and ${ids.length - most} more`) : "");
  }

  /** Show what was computed at other inputs. */
  function changed(numbers) {
    page.numbers = numbers;
    const { gradients, inputs } = data.javascript;
    for (const [id, { line, node }] of lines) {
      if (kind(id) !== "e") continue;
      line.value = numbers[inputs + Number(id.slice(1))];
      if (id in gradients) line.gradient = numbers[gradients[id]];
      node.querySelector(".value").textContent = shown(line.value);
      if (line.gradient !== undefined) node.querySelector(".slope").textContent = shown(line.gradient);
    }
    beside();
    inspect(state.line);
  }

  /** What a screen reader says of a line: its text, and what stands beside it, in words. */
  function label({ line, node, pane: name }) {
    const text = node.querySelector(".what").textContent.trim(), box = node.querySelector(".value");
    const parts = [name === "source" && line.number !== undefined ? `line ${line.number}: ${text}` : text];
    if (kind(line.id) === "e") {
      if (line.value !== undefined) parts.push(`value ${shown(line.value)}`);
      if (line.gradient !== undefined) parts.push(`gradient ${shown(line.gradient)}`);
    } else if (box?.textContent) {
      parts.push(box.classList.contains("many") ? "values " : "value ");
      parts.push(parts.pop() + [...box.childNodes].map((child) => child.textContent.trim()).join(", ").replace(/\s*\u2202 /, ", gradient ").replace("\u2026", "to").replace(/\s*\u00d7([\d,]+)/, ", $1 in all"));
    }
    node.setAttribute("aria-label", parts.join(", "));
  }

  /** The numbers beside lines of other texts, and in the graph: those of equations. */
  function beside() {
    values.beside();
    lines.forEach(label);
    for (const node of document.querySelectorAll(".graph .node")) {
      const texts = node.querySelectorAll("text"), id = node.id.slice(2), k = Number(id.slice(1));
      const number = id[0] === "i" ? inputs.numbers[k] : lines.get(id)?.line.value;
      if (texts.length < 2 || number === undefined) continue;
      const slope = id[0] === "i" ? data.inputs[k].gradient : lines.get(id).line.gradient;
      texts[1].textContent = shown(number);
      if (texts[2] && slope !== undefined) texts[2].textContent = `\u2202 ${shown(slope)}`;
    }
  }

  // --- the page --------------------------------------------------------------------------------------------------------

  const views = { code: "Code", passes: "Passes", ...(data.graph ? { graph: "Graph" } : {}), trace: "Trace" };
  const tabs = {}, toggles = {};

  function show(view) {
    state.view = view in views ? view : "code";
    for (const name of Object.keys(views)) {
      tabs[name].setAttribute("aria-selected", String(name === state.view));
      tabs[name].tabIndex = name === state.view ? 0 : -1;
    }
    for (const node of document.querySelectorAll(".view")) node.hidden = node.dataset.view !== state.view;
    inspector.hidden = state.view === "passes";
  }
  function turned(event) {
    const all = Object.keys(views), here = all.indexOf(state.view);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (!(to in all)) return;
    event.preventDefault();
    show(all[to]);
    save();
    tabs[all[to]].focus();
  }
  function current(name) {
    state.current = name;
    for (const each of names) panes[each].classList.toggle("current", each === name);
    arrange();
  }
  function toggle(name) {
    const kept = state.panes.includes(name) ? state.panes.filter((each) => each !== name) : [...state.panes, name];
    state.panes = names.filter((each) => kept.includes(each));
    arrange();
    save();
  }
  function arrange() {
    for (const name of names) {
      const here = narrow.matches ? state.current === name : state.panes.includes(name);
      toggles[name].setAttribute("aria-pressed", String(here));
      panes[name].hidden = !narrow.matches && !here;
    }
  }
  function theme(choice) {
    state.theme = choice;
    const dark = choice ? choice === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    themes.textContent = dark ? "light colours" : "dark colours";
    if (drawn) drawn.refresh();
  }
  function save() {
    const words = new URLSearchParams({ view: state.view, panes: state.panes.join(","), line: state.line, ...(state.view === "passes" ? { step: state.step } : {}), ...(state.theme ? { theme: state.theme } : {}) });
    history.replaceState(null, "", `#${decodeURIComponent(words.toString())}`);
  }
  function load() {
    const words = new URLSearchParams(location.hash.slice(1));
    const few = data.panes.python.lines.length <= 80;
    const chosen = (words.get("panes") ?? "").split(",").filter((name) => names.includes(name));
    state.panes = chosen.length ? chosen : ["source", "program", few ? "python" : "loops"];
    current(state.panes.includes("program") ? "program" : state.panes[0]);
    theme(words.get("theme") ?? "");
    passes.open(Math.min(data.steps.length - 1, Number(words.get("step") ?? passes.begin)));
    show(words.get("view") ?? "code");
    select(lines.has(words.get("line")) ? words.get("line") : "");
  }

  const themes = element("button", { click: () => { theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); save(); } });
  const { counts } = data;
  const derivatives = counts["of the gradient"] ?? counts["of the derivatives"];
  const about = `${data.title.replaceAll("`", "")} \u00b7 ${counts.equations.toLocaleString("en")} equations (${counts["of the value"].toLocaleString("en")} of the value, ${derivatives.toLocaleString("en")} of the ${"of the gradient" in counts ? "gradient" : "derivatives"}${counts["of the update"] ? `, ${counts["of the update"].toLocaleString("en")} of the update` : ""}) \u00b7 rolled into ${counts.statements} ${counts.statements === 1 ? "statement" : "statements"} \u00b7 runs as ${language}`;
  const code = element("div", { class: "view", "data-view": "code" },
    element("div", { class: "tools", role: "group", "aria-label": "Panes" }, element("span", { class: "label" }, "Show"),
      ...names.map((name) => (toggles[name] = element("button", { click: () => (narrow.matches ? current(name) : toggle(name)) }, data.panes[name].title))),
      element("p", { class: "help" }, "Point at a line, or click it: what it came from and what it became lights up in all texts."),
      element("span", { class: "keys", "aria-hidden": "true" }, "\u2191 \u2193 line   \u2190 \u2192 text   [ ] value   Esc none")),
    element("p", { id: "keys", hidden: "" }, "The up and down arrows walk over lines, the left and right ones over texts; brackets step through the values of a line; Escape lets go of it."),
    inputs.row(), element("div", { class: "panes" }, ...names.map(pane)));
  const passes = passesView(page);
  drawn = traceView(page);
  const parts = { code, passes: passes.node, ...(data.graph ? { graph: graphView(page) } : {}), trace: drawn.node };
  for (const [name, title] of Object.entries(views)) {
    tabs[name] = element("button", { role: "tab", id: `view-${name}`, "aria-controls": `panel-${name}`, keydown: turned, click: () => { show(name); save(); } }, title);
    for (const [key, value] of Object.entries({ role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `view-${name}` })) parts[name].setAttribute(key, value);
  }
  document.body.append(
    element("header", {}, element("h1", {}, data.name), element("p", { class: "about", title: data.reason }, about),
      element("nav", { "aria-label": "Views" }, element("div", { class: "tabs", role: "tablist", "aria-label": "Views" }, ...Object.values(tabs)), themes)),
    element("main", {}, ...Object.values(parts), inspector, spoken));
  beside();
  narrow.addEventListener("change", arrange);
  window.addEventListener("hashchange", load);
  load();
})();
