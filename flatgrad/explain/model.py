"""What a page about a kernel shows, as data: texts line by line, links between them, passes, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compiler.kernel import BaseKernel
from ..compiler.languages.loader import collector_paused
from ..compiler.loops.array_program import ArrayProgram
from ..compiler.open_kernel import OpenKernel
from ..compiler.options import Options
from ..compiler.program.builder import Indices
from ..compiler.program.program import Program
from ..compiler.stages import Stages
from ..runtime.errors import ARITHMETIC_ERRORS, InputError, OptionError
from ..runtime.primitives import TABLE, checked, logical_and, logical_not, position, turned
from ..runtime.sites import Location
from ..runtime.version import VERSION
from .assembly import sections
from .graph import graph_svg, loops_svg
from .javascript import checks, javascript, near, unknown
from .lines import Line, by_id, link, number
from .loops import Loops, points_near, repeats
from .origins import Origin, with_origins
from .owners import PARTS, parts_of
from .passes import follow
from .python_text import PythonText, python_text, returns_several
from .results import choices_of, conditions_of, of_guards, only_readers, results_of, running
from .rules import decided, rule_of
from .shown import WHOLE, chosen, program_lines, python_shown
from .source import source_lines
from .spy import spy
from .steps import Step
from .subjects import equations_of, subject_of
from .timeline import LOOPS, PYTHON, VALUE, adjoint_step, loop_steps
from .trail import CONSTANT
from .ways import Known, ways_shown

#: The largest program that is explained, in equations.
LIMIT = 300_000
#: So many of the numbers that a line made are shown, and so many of those of a loop in a long program.
_RESULTS, _LANES = 40, 12
#: Programs of more equations are not computed again in the page, and those of more inputs have no sliders.
_SLIDING, _SLIDERS = 10_000, 1_000


#: Rows that nobody wrote where they stand in no line of the user's, and that no rule of a gradient made.
_CHECKS = checked, turned, logical_not, logical_and
#: Rows that raise where numbers go another way.
_GUARDS = checked.name, turned.name, f"ieee_{checked.name}", f"ieee_{turned.name}"

PANES = {
    "source": "Source",
    "program": "Program and adjoint",
    "python": "Flat Python",
    "loops": "Loops",
    "assembly": "Assembly",
}


def explained(
    kernel: BaseKernel | OpenKernel,
    inputs: Sequence[float] | None = None,
    source: str = "",
    ways: Sequence[Known] = (),
) -> dict[str, Any]:
    """All that a page about a kernel shows.

    Args:
        kernel: the kernel.
        inputs: numbers at which values and gradients are shown, one per input of its program (with the leaves); those
            that it was traced at, by default.
        source: what is shown in place of the user's lines, where these are not known.
        ways: those that calls of the function have gone.

    Raises:
        OptionError: if the program has more than 300,000 equations.
        InputError: for a wrong number of inputs.

    Example:
        >>> import flatgrad as fg
        >>> kernel = fg.value_and_grad(lambda x: x * x).kernel_for(3.0)
        >>> program = explained(kernel)["panes"]["program"]["lines"]
        >>> [(line["text"], line["value"]) for line in program if "value" in line]
        [('v1 = mul x x', 9.0), ('v2 = mul 1.0 x', 3.0), ('v3 = mul 1.0 x', 3.0), ('v4 = add v2 v3', 6.0), ('x_bar = add v4 0.0', 6.0)]
    """  # noqa: E501
    with collector_paused():
        return _Explanation(kernel, inputs, source, ways).as_dict()


class _Explanation:
    def __init__(
        self, kernel: BaseKernel | OpenKernel, inputs: Sequence[float] | None, source: str, ways: Sequence[Known]
    ) -> None:
        if equations_of(kernel) > LIMIT:
            raise OptionError(
                f"explain: the program has {equations_of(kernel):,} equations, and pages show up to {LIMIT:,}; "
                "explain the kernel of a smaller call, such as one with fewer rows or rounds"
            )
        self.subject = subject_of(kernel)
        self.whole: Stages = self.subject.stages
        self.origin: Origin = with_origins(self.whole)
        self.joint: Program = self.origin.joint
        #: Where the derivatives begin, whether some are parts of what was traced, and how they are called.
        self.first = min([*self.origin.derived, self.joint.primal])
        self.differentiates = self.origin.made.any()
        self.parts: Indices = self._parts()
        self.has_parts = bool(self.origin.derived or (self.whole.spliced and self.joint.update < 0))
        self.derivatives = "derivatives" if self.has_parts else "gradient"
        self.stages = self.origin.stages
        self.options: Options = self.whole.options
        self.inputs = self._inputs(inputs)
        self.error = ""
        self.numbers = self._numbers()
        self.programs: Sequence[ArrayProgram] = self.subject.programs
        self.loops = Loops(self.programs, [name for name, _ in self.whole.functions])
        self.asked = self._asked()
        self.source, self.places = source_lines(self._locations(), source or self.whole.title)
        self.ways = ways_shown(self.whole.way, ways, self.places)
        points = points_near(self.inputs, self.joint) if self.inputs is not None else []
        self.owners = self.loops.owners(self.joint, points, self.options.fast)
        shown, self.complete = chosen(self.joint, self.owners.which)
        self.equations = {e: Line(self._text(e), f"e{e}") for e in shown}
        self.rules: dict[Any, dict[str, str]] = {}
        self.steps: list[Step] = []
        #: The lines of flat Python that are linked to an equation that is shown, by their numbers.
        self.python_lines: dict[int, Line] = {}
        self.python = self._python()
        self._link_source()
        for e, line in self.equations.items():
            for owner in self.owners[e]:
                link(line, owner)
        self._link_adjoint()
        self.assembly = self._assembly()
        self._facts()
        self._find_results()

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _inputs(self, given: Sequence[float] | None) -> list[float] | None:
        """A number per input of the joint program; gradients that a call would give are 1."""
        count = self.joint.inputs
        numbers = self.subject.inputs if given is None else given
        if numbers is None:
            return None
        groups = self.joint.input_groups
        seeds = groups[-1].size if groups and groups[-1].name == "output_bars" else 0
        if len(numbers) != count - seeds:
            if given is None:
                return None
            raise InputError(f"explain: inputs must be {count - seeds} numbers, one per input, got {len(numbers)}")
        truths = self.joint.truth_inputs
        given_numbers = [bool(n) if k in truths else float(n) for k, n in enumerate(numbers)]
        return [*given_numbers, *[1.0] * seeds]

    def _numbers(self) -> list[Any] | None:
        """The numbers of all variables; None if there are none, with the error that is in their place."""
        if self.inputs is None:
            return None
        try:
            return self.joint.evaluate_all(self.inputs)
        except ARITHMETIC_ERRORS as error:
            self.error = str(error).partition("\n")[0]
            if self.error.startswith(_GUARDS):
                self.error = self._other_way()
            return None

    def _other_way(self) -> str:
        """Why there are no numbers where the inputs go another way."""
        way, turn = self.whole.way, self.whole.turn(self.inputs or ())
        where = ""
        if turn is not None and 0 <= turn[0] < len(way.lines) and way.lines[turn[0]] is not None:
            where = f": at {way.lines[turn[0]]} they have {turn[1]}, and the way of this page has {way.truths[turn[0]]}"
        return f"they go another way than those of this kernel{where}. Give others, as inputs="

    # --- the program ----------------------------------------------------------------------------------------------

    def _locations(self) -> list[Any]:
        used = [site for site in np.unique(self.joint.sites).tolist() if site >= 0]
        return list(dict.fromkeys([*(self.joint.locations[site] for site in used), *self.asked]))

    def _asked(self) -> dict[Location, list[int]]:
        """Lines that ask for conditions of other lines, as `if c:` does, with the equations that these are."""
        conditions = conditions_of(self.whole.traced, self.whole.way.truths)
        here = {number: e for e, number in reversed(list(enumerate(self.origin.traced)))} if conditions else {}
        asked: dict[Location, list[int]] = {}
        for location, condition in conditions:
            e = here.get(condition, -1)
            if e >= 0 and self.joint.equation(e).location != location:
                asked.setdefault(location, []).append(e)
        return asked

    def _text(self, e: int) -> str:
        joint, equation = self.joint, self.joint.equation(e)
        operands = map(joint.name_of, equation.operands)
        return " ".join([f"{joint.name_of(equation.variable)} =", equation.primitive.name, *operands])

    def _facts(self) -> None:
        """What is known of each equation: numbers, and the rule that made it."""
        joint, origin, numbers = self.joint, self.origin, self.numbers
        rules = self.rules
        places: dict[Any, int] = {}
        for e, line in self.equations.items():
            variable, facts = joint.inputs + e, line.facts
            facts["part"] = PARTS[self.parts[e]]
            if numbers is not None:
                facts["value"] = number(numbers[variable])
                if variable in origin.gradients:
                    facts["gradient"] = number(numbers[origin.gradients[variable]])
                elif variable in origin.constants:
                    facts["gradient"] = number(origin.constants[variable])
            if variable in origin.gradients and origin.gradients[variable] >= joint.inputs:
                facts["bar"] = f"e{origin.gradients[variable] - joint.inputs}"
            made = origin.made[e]
            if e in origin.derived:
                self._derived_facts(e, facts, places)
            elif made is None and self._checks(e):
                facts["how"] = "check"
            if made is None:
                continue
            facts["how"] = made.how
            if origin.targets[e] >= 0:
                facts["receiver"] = joint.plain_name(origin.targets[e])
            if made.equation >= 0:
                primitive = TABLE[origin.primal.opcodes[made.equation]]
                operands = origin.primal.equation(made.equation).operands
                key = primitive.opcode, made.operand, decided(origin.primal, primitive, operands), "gradient"
                if key not in rules:
                    rules[key] = rule_of(primitive, made.operand, key[2])._asdict() | {"of": "gradient"}
                facts["rule"] = places.setdefault(key, len(places))

    def _checks(self, e: int) -> bool:
        """Whether an equation that no rule of a gradient made is a part of what raises."""
        if self.differentiates and self.parts[e] == PARTS.index("gradient"):
            return True
        return self.joint.sites[e] < 0 and self.joint.equation(e).primitive in _CHECKS

    def _derived_facts(self, e: int, facts: dict[str, Any], places: dict[Any, int]) -> None:
        """Of an equation of a derivative that is a part of what was traced: the rule that made it."""
        each = self.origin.derived[e]
        facts["how"], facts["of"] = each.how, each.of
        if each.target >= 0:
            facts["receiver"] = self.joint.name_of(each.target)
        if each.key is not None:
            key = *each.key, each.of
            if key not in self.rules:
                rule = rule_of(TABLE[each.key[0]], *each.key[1:], each.of)
                self.rules[key] = rule._asdict() | {"of": each.of}
            facts["rule"] = places.setdefault(key, len(places))
            if each.equation < 0:
                facts["lost"] = True

    def _parts(self) -> Indices:
        """What each equation belongs to, as places in `PARTS`.

        Those of derivatives in the traced program are no part of its value.
        """
        parts = parts_of(self.joint)
        if self.origin.derived and not self.differentiates:
            parts[parts == PARTS.index("gradient")] = PARTS.index("value")  # no gradient stands behind all of the value
        parts[list(self.origin.derived)] = PARTS.index("gradient")
        return parts

    def _item(self, e: int, value: Any) -> list[Any]:
        """A number that a line made: its equation, or what is known of one that is not shown."""
        if e in self.equations:
            return [e]
        if e < 0:
            return [e, "", number(value)]
        variable = self.joint.inputs + e
        item = [e, self.joint.name_of(variable), number(value)]
        assert self.numbers is not None
        if variable in self.origin.gradients:
            item.append(number(self.numbers[self.origin.gradients[variable]]))
        elif variable in self.origin.constants:
            item.append(number(self.origin.constants[variable]))
        return item

    def _put_results(self, line: Line, found: Sequence[tuple[int, Any]], most: int, name: str = "results") -> None:
        """Say which numbers a line made; of many the first and the last ones, and how many there are."""
        if not found or self.numbers is None:
            return
        kept = found if len(found) <= most else [*found[: most // 2], *found[-(most // 2) :]]
        line.facts[name] = [self._item(e, value) for e, value in kept]
        if len(kept) < len(found):
            line.facts["count" if name == "results" else f"{name} count"] = len(found)

    def _find_results(self) -> None:
        """What lines come to, and how many equations they are."""
        joint = self.joint
        hidden = of_guards(self.whole.traced, self.whole.way.truths)
        sites, traced = np.asarray(joint.sites), np.asarray(self.origin.traced)
        is_seen = (self.parts == PARTS.index("value")) & ~np.isin(traced, list(hidden))
        choices = choices_of(joint)
        readers = only_readers(joint, choices)
        order = np.argsort(sites, kind="stable")
        for equations in np.split(order, np.flatnonzero(np.diff(sites[order])) + 1) if len(order) else ():
            site = int(sites[equations[0]])
            line = self.places.get(joint.locations[site]) if site >= 0 else None if self.places else self.source[0]
            if line is None:
                continue
            line.facts["cost"] = len(equations)
            line.facts["of value"] = int(np.count_nonzero(self.parts[equations] == PARTS.index("value")))
            seen = equations[is_seen[equations]].tolist()
            found = results_of(joint, seen, joint.locations[site] if site >= 0 else None)
            found, inner, what = running(joint, seen, found, readers, choices)
            self._put_results(line, [(e, self._value(e)) for e in found], _RESULTS)
            self._put_results(line, [(e, self._value(e)) for e in inner], _RESULTS, "running")
            if inner:
                line.facts["running are"] = what
        for location, conditions in self.asked.items():
            if "results" not in self.places[location].facts:
                self._put_results(self.places[location], [(e, self._value(e)) for e in conditions], _RESULTS)
        inputs = self.inputs if self.numbers is not None else None
        lanes = self.loops.lanes(inputs) if inputs is not None else {}
        for line in self.loops.lines:
            self._put_results(line, lanes.get(line.id, []), _LANES if len(joint) > WHOLE else _RESULTS)

    def _value(self, e: int) -> Any:
        return None if self.numbers is None else self.numbers[self.joint.inputs + e]

    # --- links ----------------------------------------------------------------------------------------------------

    def _link_source(self) -> None:
        if not self.places:
            for line in self.equations.values():
                link(self.source[0], line)
            return
        for e, line in self.equations.items():
            site = self.joint.sites[e]
            if site >= 0:
                link(self.places[self.joint.locations[site]], line)
        for location, conditions in self.asked.items():
            for e in conditions:
                if e in self.equations:
                    link(self.places[location], self.equations[e])

    def _link_adjoint(self) -> None:
        """Between equations of the adjoint and the equation whose rule made them."""
        for e, line in self.equations.items():
            source = self.equations.get(self.origin.names[e])
            if source is not None:
                link(line, source)

    def _python(self) -> PythonText:
        self.steps += follow(self.stages.primal_passes, self.stages.without_faults(self.stages.traced), VALUE).steps
        if self.differentiates:
            self.steps.append(adjoint_step(self.origin))
        flat, trail, steps = follow(self.options.joint_passes, self.joint, PYTHON)
        self.steps += steps
        text = python_text(self.stages, flat)
        lasts = text.lasts()
        for k, line in self.equations.items():
            variable = self.joint.inputs + k
            place = int(trail.where[variable])
            if place < 0:
                is_number = place == CONSTANT
                line.facts["gone"] = f"it is {trail.constants[variable]!r}" if is_number else "nothing reads it"
                continue
            for row in text.places_of(place - flat.inputs) if place >= flat.inputs else ():
                target = self.python_lines.get(row)
                if target is None:
                    target = self.python_lines[row] = Line(text.lines[row], f"p{len(self.python_lines)}")
                link(line, target)
                if lasts[row] == place - flat.inputs and not returns_several(text.lines[row]):
                    target.facts["result"] = line.id
        return text

    def _python_shown(self) -> list[Line]:
        """The lines of flat Python that are shown, each with how many equations it computes."""
        costs, lines = self.python.costs(), list[Line]()
        for k in python_shown(self.python.lines, self.python_lines):
            line = k if isinstance(k, Line) else self.python_lines.get(k) or Line(self.python.lines[k])
            if not isinstance(k, Line) and costs[k]:
                line.facts["cost"] = int(costs[k])
            lines.append(line)
        return lines

    def _assembly(self) -> list[Line]:
        lines: list[Line] = []
        count = 0
        for program in self.programs:
            for section in sections(program, self.options.fast):
                head = Line(f"{section.name}:", facts={"head": True, "instructions": section.instructions})
                owners = [line for item in section.items for line in self.loops.lines_of(item)]
                if owners:
                    head.id = f"a{count}"
                    count += 1
                    for owner in owners:
                        link(head, owner)
                lines.append(head)
                for instruction in section.lines:
                    line = Line(instruction.text)
                    found = [self.loops.line_of_equation(*each) for each in instruction.equations]
                    computed = [owner for owner in found if owner is not None]
                    if computed:
                        line.id = f"a{count}"
                        count += 1
                    for owner in computed:
                        link(line, owner)
                    lines.append(line)
        return lines

    # --- the page as data ----------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """The explanation as data."""
        program = program_lines(self.joint, self.equations, self.complete, self.first, self.derivatives)
        python = self._python_shown()
        operations = sum(line.facts.get("cost", 0) for line in self.loops.lines)
        costs = {"python": len(self.python.equations), "loops": operations}
        texts = [self.source, program, python, self.loops.lines, self.assembly]
        there = by_id(texts)
        for line in there.values():
            line.links &= there.keys()
        panes = {
            name: {
                "title": title,
                "cost": costs.get(name, len(self.joint)),
                "lines": [line.as_dict() for line in lines],
            }
            for (name, title), lines in zip(PANES.items(), texts, strict=True)
        }
        order = {line.id: k for k, line in enumerate(line for line in self.loops.lines if line.id)}
        places = [order[lines[0].id] if len(lines) == 1 else -1 for lines in self.owners.groups]
        owners = np.array(places)[self.owners.which]
        subject, update = self.subject, self.joint.update
        parts = dict(zip(PARTS, np.bincount(self.parts, minlength=len(PARTS)).tolist(), strict=True))
        return {
            "name": subject.name,
            "title": self.whole.title,
            "version": VERSION,
            "mode": self.options.mode,
            "backend": subject.backend,
            "reason": subject.reason,
            "note": " ".join(filter(None, [subject.note, self._note()])),
            "guards": subject.guards,
            "ways": self.ways,
            "error": self.error,
            "counts": {
                "equations": len(self.joint),
                "of the value": parts["value"],
                f"of the {self.derivatives}": parts["gradient"],
                **({"of the update": parts["update"]} if update >= 0 else {}),
                "statements": sum(len(p.statements) for p in self.programs),
                "loops over rounds": sum(map(repeats, self.programs)),
                "instructions": sum(line.facts.get("instructions", 0) for line in self.assembly),
            },
            "panes": panes,
            "rules": list(self.rules.values()),
            "steps": [step.as_dict() for step in [*self.steps, *self._loop_steps()]],
            "graph": graph_svg(self.joint, self._beside()) or loops_svg(self.loops, self.owners.counts()),
            "spy": {**spy(self.joint, owners, len(order)), "loops": list(order)},
            "inputs": self._input_facts(),
            "javascript": self._javascript(),
        }

    def _note(self) -> str:
        """What a reader has to know of the derivatives that are a part of what was traced."""
        if not self.has_parts:
            return ""
        if not self.origin.derived and len(self.joint):
            return "Its derivatives were traced in another form, so that the rules that made their lines are not known."
        return "Its derivatives were simplified when they were traced: what a rule made may be written in another way."

    def _beside(self) -> dict[int, tuple[str, str]]:
        """The value and the gradient of the variables of a small program, as text."""
        if self.numbers is None or len(self.joint) > WHOLE:
            return {}
        texts = {}
        for variable in range(self.joint.inputs + self.joint.primal):
            gradient = self.origin.gradients.get(variable)
            slope = self.origin.constants.get(variable) if gradient is None else self.numbers[gradient]
            texts[variable] = f"{self.numbers[variable]:.6g}", "" if slope is None else f"{slope:.6g}"
        return texts

    def _loop_steps(self) -> list[Step]:
        """The passes for the loops, and what finding them did."""
        stages = self.whole
        passes = follow(stages.array_passes, stages.joint_for_loops, LOOPS).steps
        names, fast = [name for name, _ in stages.functions], self.options.fast
        loops = loop_steps(stages.array_parts, self.programs, names, fast, self.loops.lines_of, self.owners.counts())
        return passes + loops

    def _input_facts(self) -> list[dict[str, Any]]:
        """Names, numbers and gradients of the inputs, if there are few."""
        if self.inputs is None or len(self.inputs) > _SLIDERS:
            return []
        result, lengths = [], _lengths(self.joint)
        for k, (name, value) in enumerate(zip(self.joint.input_names, self.inputs, strict=True)):
            facts: dict[str, Any] = {"name": name, "value": number(value)}
            if k in lengths:
                facts["length"] = lengths[k]
            gradient = self.origin.gradients.get(k)
            if gradient is not None:
                if self.numbers is not None:
                    facts["gradient"] = number(self.numbers[gradient])
                if gradient >= self.joint.inputs:
                    facts["bar"] = f"e{gradient - self.joint.inputs}"
            elif k in self.origin.constants:
                facts["gradient"] = number(self.origin.constants[k])
            result.append(facts)
        return result

    def _javascript(self) -> dict[str, Any]:
        """The program in JavaScript, if it is small; or why it is not there."""
        why, names = "", unknown(self.joint)
        if self.inputs is None:
            why = "the numbers that the function was traced at are not known; give them as inputs=, or explain the "
            why += "function for arguments, as f.explain(path, *arguments) does"
        elif len(self.joint) > _SLIDING:
            why = f"the program has {len(self.joint):,} equations, and a page computes up to {_SLIDING:,} of them again"
        elif self.joint.inputs > _SLIDERS:
            why = f"there are {self.joint.inputs:,} inputs, and a page has sliders for up to {_SLIDERS:,}"
        elif names:
            why = f"the page cannot compute {' and '.join(names)}"
        if why or self.numbers is None:
            return {"code": "", "why": why or "the function raises an error at these inputs"}
        browser = near(self.joint)
        note = (
            f"The browser computes {', '.join(browser)}; the last digits may differ from Python's." if browser else ""
        )
        inputs, gradients = self.joint.inputs, self.origin.gradients
        return {
            "code": javascript(self.joint),
            "near": note,
            "inputs": inputs,
            "checks": checks(self.joint),
            "gradients": {f"e{v - inputs}" if v >= inputs else f"i{v}": g for v, g in gradients.items()},
        }


def _lengths(program: Program) -> dict[int, int]:
    """Inputs that are places in a table, with its length: of several tables, the shortest."""
    lengths: dict[int, int] = {}
    for e in np.flatnonzero(np.asarray(program.opcodes) == position.opcode).tolist():
        place, length = program.equation(e).operands
        if 0 <= place < program.inputs and length < 0:
            length = int(program.constants[~length])
            lengths[place] = min(length, lengths.get(place, length))
    return lengths
