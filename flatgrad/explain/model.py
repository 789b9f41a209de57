"""What a page about a kernel shows, as data: texts line by line, links between them, passes, numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..compiler.kernel import Kernel
from ..compiler.loops.array_program import ArrayProgram
from ..compiler.options import Options
from ..compiler.program.program import Group, Program, grouped
from ..compiler.stages import Stages
from ..runtime.errors import ARITHMETIC_ERRORS, InputError, OptionError
from ..runtime.primitives import TABLE, position
from ..runtime.version import VERSION
from .assembly import sections
from .graph import graph_svg
from .javascript import javascript, unknown
from .lines import Line, by_id, fold, folded, link, number
from .loops import Loops, part_of, points_near, repeats
from .origins import Origin, with_origins
from .passes import GONE, follow
from .python_text import python_lines
from .rules import decided, rule_of
from .source import source_lines
from .spy import spy
from .steps import Step
from .timeline import LOOPS, PYTHON, VALUE, adjoint_step, loop_steps

#: The largest program that is explained, in equations.
LIMIT = 300_000
#: Of longer programs only some equations of each kind are shown: the first ones and the last one.
_WHOLE, _FIRST = 400, 3
#: Longer texts are folded, and longer lists of inputs and outputs.
_LINES, _NAMED = 600, 4
#: Programs of more equations are not computed again in the page, and those of more inputs have no sliders.
_SLIDING, _SLIDERS = 2_000, 24

#: Lines that compute more equations have no number beside them.
_FEW = 24

PANES = {
    "source": "Source",
    "program": "Program and adjoint",
    "python": "Flat Python",
    "loops": "Loops",
    "assembly": "Assembly",
}


def explained(kernel: Kernel, inputs: Sequence[float] | None = None, source: str = "") -> dict[str, Any]:
    """All that a page about a kernel shows.

    Args:
        kernel: the kernel.
        inputs: numbers at which values and gradients are shown, one per input of its program (with the leaves); those
            that it was traced at, by default.
        source: what is shown in place of the user's lines, where these are not known.

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
    return _Explanation(kernel, inputs, source).as_dict()


class _Explanation:
    def __init__(self, kernel: Kernel, inputs: Sequence[float] | None, source: str) -> None:
        self.kernel = kernel
        stages: Any = kernel.stages
        if kernel.stats.equations > LIMIT:
            raise OptionError(
                f"explain: the program has {kernel.stats.equations:,} equations, and pages show up to {LIMIT:,}; "
                "explain the kernel of a smaller call, such as one with fewer rows or rounds"
            )
        self.whole: Stages = stages.here if hasattr(stages, "here") else stages
        self.origin: Origin = with_origins(self.whole)
        self.joint: Program = self.origin.joint
        self.stages = self.origin.stages
        self.options: Options = self.whole.options
        self.inputs = self._inputs(inputs)
        self.error = ""
        self.numbers = self._numbers()
        self.programs: Sequence[ArrayProgram] = stages.arrays
        self.loops = Loops(self.programs, [name for name, _ in self.whole.functions])
        self.source, self.places = source_lines(self._locations(), source or self.whole.title)
        points = points_near(self.inputs, self.joint) if self.inputs is not None else []
        self.owners = self.loops.owners(self.joint, points, self.options.fast)
        self.shown = self._shown()
        self.equations = {e: Line(self._text(e), f"e{e}") for e in self.shown}
        self.steps: list[Step] = []
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
        count, kernel = self.joint.inputs, self.kernel
        numbers = kernel.traced_at if given is None else given
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
            return None

    # --- the program ----------------------------------------------------------------------------------------------

    def _locations(self) -> list[Any]:
        used = sorted({site for site in self.joint.sites if site >= 0})
        return [self.joint.locations[site] for site in used]

    def _text(self, e: int) -> str:
        joint, equation = self.joint, self.joint.equation(e)
        operands = map(joint.name_of, equation.operands)
        return " ".join([f"{joint.name_of(equation.variable)} =", equation.primitive.name, *operands])

    def _facts(self) -> None:
        """What is known of each equation: numbers, and the rule that made it."""
        joint, origin, numbers = self.joint, self.origin, self.numbers
        rules: dict[Any, dict[str, str]] = {}
        for e, line in self.equations.items():
            variable, facts = joint.inputs + e, line.facts
            facts["part"] = part_of(joint, e)
            if numbers is not None:
                facts["value"] = number(numbers[variable])
                if variable in origin.gradients:
                    facts["gradient"] = number(numbers[origin.gradients[variable]])
                elif variable in origin.constants:
                    facts["gradient"] = number(origin.constants[variable])
            if variable in origin.gradients and origin.gradients[variable] >= joint.inputs:
                facts["bar"] = f"e{origin.gradients[variable] - joint.inputs}"
            made = origin.made[e]
            if made is None:
                continue
            facts["how"] = made.how
            facts["receiver"] = origin.primal.plain_name(made.target)
            if made.equation >= 0:
                primitive = TABLE[origin.primal.opcodes[made.equation]]
                operands = origin.primal.equation(made.equation).operands
                key = primitive.opcode, made.operand, decided(origin.primal, primitive, operands)
                if key not in rules:
                    rules[key] = rule_of(primitive, made.operand, key[2])._asdict()
                facts["rule"] = rules[key]

    def _number(self, equation: int) -> Any:
        return None if self.numbers is None else self.numbers[self.joint.inputs + equation]

    def _find_results(self) -> None:
        """What a line comes to: the last equation that it computes, if it computes few."""
        for line in [*self.source, *self.python, *self.loops.lines]:
            equations = sorted(int(other[1:]) for other in line.links if other[0] == "e")
            if line.id.startswith("s"):
                equations = [e for e in equations if e < self.joint.primal]
            if line.id.startswith("l") and len({repr(self._number(e)) for e in equations}) > 1:
                continue  # lanes differ
            if 0 < len(equations) <= _FEW:
                line.facts["result"] = f"e{equations[-1]}"

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

    def _link_adjoint(self) -> None:
        """Between equations of the adjoint and the equation whose rule made them."""
        for e, line in self.equations.items():
            source = self.equations.get(self.origin.names[e])
            if source is not None:
                link(line, source)

    def _python(self) -> list[Line]:
        self.steps += follow(self.stages.primal_passes, self.stages.without_faults(self.stages.traced), VALUE).steps
        if len(self.joint) > self.joint.primal:
            self.steps.append(adjoint_step(self.origin))
        flat, where, constants, steps = follow(self.options.joint_passes, self.joint, PYTHON)
        self.steps += steps
        lines, places = python_lines(self.stages, flat)
        count = 0
        for k, line in self.equations.items():
            place = int(where[self.joint.inputs + k])
            if place < 0:
                number_ = constants.get(self.joint.inputs + k)
                line.facts["gone"] = "nothing reads it" if place == GONE else f"it is {number_!r}"
                continue
            for target in places[place - flat.inputs] if place >= flat.inputs else ():
                if not target.id:
                    target.id = f"p{count}"
                    count += 1
                link(line, target)
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

    # --- what is shown --------------------------------------------------------------------------------------------

    def _shown(self) -> list[int]:
        """The equations that are shown: of long programs some of each kind."""
        if len(self.joint) <= _WHOLE:
            return list(range(len(self.joint)))
        kinds: dict[Any, list[int]] = {}
        for e, owners in enumerate(self.owners):
            key = self.joint.opcodes[e], self.joint.sites[e], part_of(self.joint, e), tuple(line.id for line in owners)
            kinds.setdefault(key, []).append(e)
        ends = (0, len(self.joint) - 1)
        chosen = sorted({*ends, *(e for members in kinds.values() for e in [*members[:_FIRST], members[-1]])})
        between = (range(a + 1, b) for a, b in itertools.pairwise(chosen) if b - a - 1 <= _FIRST)
        return sorted([*chosen, *itertools.chain.from_iterable(between)])

    def _program(self, shown: Sequence[int]) -> list[Line]:
        """The lines of the program, with signature and results, and a line in place of what is left out."""
        joint = self.joint
        takes = _listed(joint.input_groups, joint.input_names)
        gives = _listed(joint.output_groups, [joint.name_of(operand) for operand in joint.outputs])
        lines, before, part = [Line(f"program {joint.name}({takes}):")], -1, "value"
        for e in shown:
            if e > before + 1:
                lines.append(fold(f"... {e - before - 1:,} equations like these ...", e - before - 1))
            before = e
            if part_of(joint, e) != part:
                part = part_of(joint, e)
                lines.append(Line(f"the {part}", facts={"head": True}))
            lines.append(self.equations[e])
        if before < len(joint) - 1:
            lines.append(fold(f"... {len(joint) - 1 - before:,} equations like these ...", len(joint) - 1 - before))
        return [*lines, Line(f"return {gives}".rstrip())]

    def as_dict(self) -> dict[str, Any]:
        """The explanation as data."""
        program = self._program(self.shown)
        kept = {line.id for line in self.equations.values()}
        python = self.python
        if len(python) > _LINES:
            near, documented = [], False
            for k, line in enumerate(python):
                quotes = line.text.count('"""') % 2 == 1
                if documented or quotes or line.links & kept or line.text.startswith("def "):
                    near.append(k)
                documented ^= quotes
            python = folded(python, near, "line", ends=1)
        texts = [self.source, program, python, self.loops.lines, self.assembly]
        there = by_id(texts)
        for line in there.values():
            line.links &= there.keys()
        panes = {
            name: {"title": title, "lines": [line.as_dict() for line in lines]}
            for (name, title), lines in zip(PANES.items(), texts, strict=True)
        }
        order = {line.id: k for k, line in enumerate(line for line in self.loops.lines if line.id)}
        owners = [order[lines[0].id] if len(lines) == 1 else -1 for lines in self.owners]
        stats = self.kernel.stats
        return {
            "name": self.kernel.name,
            "title": self.whole.title,
            "version": VERSION,
            "mode": self.options.mode,
            "backend": stats.backend,
            "reason": stats.reason,
            "guards": len(self.kernel.way.truths),
            "error": self.error,
            "counts": {
                "equations": len(self.joint),
                "of the value": self.joint.primal,
                "of the gradient": len(self.joint) - self.joint.primal,
                "statements": sum(len(p.statements) for p in self.programs),
                "loops over rounds": sum(map(repeats, self.programs)),
                "instructions": sum(line.facts.get("instructions", 0) for line in self.assembly),
            },
            "panes": panes,
            "steps": [step.as_dict() for step in [*self.steps, *self._loop_steps()]],
            "graph": graph_svg(self.joint, self._beside()),
            "spy": {**spy(self.joint, owners, len(order)), "loops": list(order)},
            "inputs": self._input_facts(),
            "javascript": self._javascript(),
        }

    def _beside(self) -> dict[int, str]:
        """The numbers beside the variables of a small program, as text."""
        if self.numbers is None or len(self.joint) > _WHOLE:
            return {}
        texts = {}
        for variable in range(self.joint.inputs + self.joint.primal):
            gradient = self.origin.gradients.get(variable)
            texts[variable] = f"{self.numbers[variable]:.4g}"
            texts[variable] += f"  ∂ {self.numbers[gradient]:.4g}" if gradient is not None else ""
        return texts

    def _loop_steps(self) -> list[Step]:
        """The passes for the loops, and what finding them did."""
        stages = self.whole
        passes = follow(stages.array_passes, stages.joint_for_loops, LOOPS).steps
        names, fast = [name for name, _ in stages.functions], self.options.fast
        loops = loop_steps(stages.array_parts, self.programs, names, fast, self.loops.lines_of, self.owners)
        return passes + loops

    def _input_facts(self) -> list[dict[str, Any]]:
        """Names, numbers and gradients of the inputs, if there are few."""
        if self.inputs is None or len(self.inputs) > 10 * _SLIDERS:
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
            result.append(facts)
        return result

    def _javascript(self) -> dict[str, Any]:
        """The program in JavaScript, if it is small; or why it is not there."""
        if self.numbers is None or len(self.joint) > _SLIDING or self.joint.inputs > _SLIDERS:
            return {"code": "", "why": "the program is too large, or its inputs are not known"}
        names = unknown(self.joint)
        if names:
            return {"code": "", "why": f"the page does not know {', '.join(names)}"}
        inputs, gradients = self.joint.inputs, self.origin.gradients
        return {
            "code": javascript(self.joint),
            "inputs": inputs,
            "gradients": {f"e{v - inputs}" if v >= inputs else f"i{v}": g for v, g in gradients.items()},
        }


def _lengths(program: Program) -> dict[int, int]:
    """Inputs that are places in a table, with its length: of several tables, the shortest."""
    lengths: dict[int, int] = {}
    for equation in program.equations():
        if equation.primitive is position:
            place, length = equation.operands
            if 0 <= place < program.inputs and length < 0:
                length = int(program.constants[~length])
                lengths[place] = min(length, lengths.get(place, length))
    return lengths


def _listed(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Inputs or outputs in short: the names of few, the number of many."""
    parts = []
    for group, own in grouped(groups, names):
        many = f"{group.name}[{group.size}]" if len(own) > _NAMED else f"[{', '.join(own)}]"
        parts.append(own[0] if group.scalar else many)
    return ", ".join(parts)
