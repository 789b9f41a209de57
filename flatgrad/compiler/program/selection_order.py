"""The proof that selections are exact: who receives gradients, and in which order (see `selections`)."""

from __future__ import annotations

import itertools

from ...runtime import primitives as p
from ...runtime.primitives import TABLE
from .builder import ProgramBuilder
from .plain_numbers import plain_numbers
from .program import Program

_SELECT = p.select.opcode
#: Among so many variables all pairs are looked at.
_PAIRS = 40
#: So many of the nodes that dominate a variable are looked at.
_TOPS = 12


class _Graph:
    """The equations of a program through which gradients flow from some outputs; what each hands a gradient to."""

    def __init__(self, program: Program, roots: int | None) -> None:
        self.program, self.first = program, program.inputs
        plain = plain_numbers(program)
        self.roots = [o for o in program.outputs[:roots] if o >= 0 and program.kind_of(o) == "f" and o not in plain]
        starts, operands = program.starts.tolist(), program.operands.tolist()
        through = [row.differentiable for row in TABLE]
        self.opcodes = program.opcodes.tolist()
        #: Per equation, the places and the variables.
        self.receivers: list[list[tuple[int, int]]] = [
            [(k, ref) for k in through[opcode] if (ref := operands[start + k]) >= 0 and ref not in plain]
            for opcode, start in zip(self.opcodes, starts, strict=False)
        ]
        #: Per variable that is reached, the equations that hand something to it, with the places; -1 for an output.
        self.uses: dict[int, list[tuple[int, int]]] = {}
        for k, root in enumerate(self.roots):
            self.uses.setdefault(root, []).append((-1, k))
        #: How many contributions a variable may receive at one time.
        self.alive: dict[int, int] = {}
        #: The conditions without which a variable is not reached, each with its side.
        self.conditions: dict[int, dict[int, int]] = {}
        for variable in range(self.first + len(self.opcodes) - 1, -1, -1):
            if variable in self.uses:
                self._meet(variable)
                if variable >= self.first:
                    for place, operand in self.receivers[variable - self.first]:
                        self.uses.setdefault(operand, []).append((variable, place))
        self.grouped = self._find_grouped()

    def is_select(self, variable: int) -> bool:
        return variable >= self.first and self.opcodes[variable - self.first] == _SELECT

    def condition(self, select: int) -> int:
        program = self.program
        return program.operands[program.starts[select - self.first]]

    def _conditions(self, user: int, place: int) -> dict[int, int]:
        """The conditions under which a user hands something on, each with its side."""
        if user < 0:
            return {}
        conditions = self.conditions[user]
        return {**conditions, self.condition(user): place} if self.is_select(user) else conditions

    def _meet(self, variable: int) -> None:
        """Find what holds wherever a variable is used, and how much it may receive at one time."""
        uses = self.uses[variable]
        weights = [self.alive[user] if self.is_select(user) else 1 for user, _ in uses]
        conditions = [self._conditions(*use) for use in uses] if len(uses) <= _PAIRS else []
        common = conditions[0] if conditions else {}
        for each in conditions[1:]:
            common = {key: side for key, side in common.items() if each.get(key) == side}
        self.conditions[variable] = dict(itertools.islice(common.items(), _PAIRS))
        self.alive[variable] = _most(list(zip(conditions, weights, strict=True))) if conditions else sum(weights)

    def _find_grouped(self) -> set[int]:
        """The selects that may sum what they receive, before they hand it on."""
        grouped: set[int] = set()
        for select in sorted(filter(self.is_select, self.uses)):
            if all(
                self._sums(select, place, operand, grouped) for place, operand in self.receivers[select - self.first]
            ):
                grouped.add(select)
        return grouped

    def _sums(self, select: int, place: int, operand: int, grouped: set[int]) -> bool:
        """Whether an operand of a select receives the same if the select sums what it receives."""
        if self.alive[select] > 1 and self.is_select(operand) and operand not in grouped:
            return False
        mine = self._conditions(select, place)
        alone = all(user == select or _excludes(mine, self._conditions(user, k)) for user, k in self.uses[operand])
        return alone or (self.alive[select] <= 1 and self.alive[operand] <= 2)


def _excludes(one: dict[int, int], other: dict[int, int]) -> bool:
    return any(other.get(condition, side) != side for condition, side in one.items())


def _most(uses: list[tuple[dict[int, int], int]]) -> int:
    """How much may come together of what comes under some conditions each: at most so much."""
    total = sum(weight for _, weight in uses)
    counts: dict[int, dict[int, int]] = {}
    for conditions, _ in uses:
        for key, side in conditions.items():
            counts.setdefault(key, {}).setdefault(side, 0)
            counts[key][side] += 1
    both = [key for key, sides in counts.items() if len(sides) > 1]
    if len(uses) < 2 or not both:
        return total
    key = max(both, key=lambda each: sum(counts[each].values()))
    sides: dict[int, list[tuple[dict[int, int], int]]] = {}
    for conditions, weight in uses:
        left = {each: side for each, side in conditions.items() if each != key}
        sides.setdefault(conditions.get(key, 0), []).append((left, weight))
    return _most(sides.pop(0, [])) + max(map(_most, sides.values()))


def proven(program: Program, roots: int | None) -> tuple[Program, set[int]]:
    """The program with copies of its selects, and the selects (of the program itself) that are not proven."""
    if roots == 0:
        return program, set()
    graph = _Graph(program, roots)
    selects = [s for s in graph.uses if graph.is_select(s)]
    separate = {s for s in selects if s not in graph.grouped}
    owners = list(range(program.inputs + len(program)))
    copied = program
    if any(len(graph.uses[s]) > 1 for s in separate):
        result = _copied(program, graph, separate)
        if result is None:
            return program, separate
        copied, owners = result
        graph = _Graph(copied, roots)
    unproven = _Order(graph).unproven()
    if sum(graph.is_select(root) for root in graph.roots) and len(graph.roots) > 2:
        unproven |= {root for root in graph.roots if graph.is_select(root) and root not in graph.grouped}
    return copied, {owners[s] for s in unproven}


def _copied(program: Program, graph: _Graph, separate: set[int]) -> tuple[Program, list[int]] | None:
    """The program with a copy of these selects for each use, and where each variable comes from; None for too many."""
    first, limit = program.inputs, 2 * len(program) + 1000
    copies: dict[int, int] = {}
    chosen: dict[tuple[int, int, int], int] = {}  # by user, its copy and the place: which copy is used
    uses: dict[int, list[tuple[int, int, int]]] = {}
    for k, output in enumerate(program.outputs):
        if output >= 0 and k < len(graph.roots):
            uses.setdefault(output, []).append((-1, 0, k))
    for variable in range(first + len(program) - 1, first - 1, -1):
        if variable not in graph.uses:
            continue
        if variable in separate:
            chosen |= {use: k for k, use in enumerate(uses.get(variable, ()))}
            copies[variable] = len(uses.get(variable, ()))
            limit -= copies[variable]
            if limit < 0:
                return None
        for k in range(copies.get(variable, 1)):
            for place, operand in graph.receivers[variable - first]:
                uses.setdefault(operand, []).append((variable, k, place))
    builder = ProgramBuilder.like(program)
    builder.program.locations = program.locations
    constants = [builder.constant(each) for each in program.constants]
    where: list[int] = list(range(first))
    owners: list[int] = list(range(first))
    starts, operands, sites = program.starts, program.operands, program.sites
    for k, opcode in enumerate(program.opcodes):
        variable = first + k
        refs = operands[starts[k] : starts[k + 1]]
        where.append(builder.next)
        for copy in range(max(1, copies.get(variable, 1))):
            owners.append(variable)
            builder.append(opcode, [
                constants[~ref] if ref < 0 else where[ref] + chosen.get((variable, copy, place), 0)
                for place, ref in enumerate(refs)
            ], sites[k])  # fmt: skip
    outputs = [constants[~o] if o < 0 else where[o] + chosen.get((-1, 0, k), 0) for k, o in enumerate(program.outputs)]
    return builder.finish(outputs, program.output_groups, primal=len(builder)), owners


class _Order:
    """The proof that the order in which variables receive does not depend on what is selected.

    A sweep visits variables depth first. A select stands for the one or the other of its operands: the edges to these
    are *gates*, of which one is closed. What is behind a closed gate may be visited later, by another path, or not at
    all. Let the tree be that of the sweep with all gates open.

    * A variable whose path in the tree has no gate is visited at the same turn whatever is closed, relative to others
      of that kind. A gate that dominates the variable does no harm: if it is closed, the variable is never visited.
      So a variable is *stable* if its path from its immediate dominator has no gate, and below a dominator c it is
      visited in order if all dominators between are stable.
    * What a variable dominates is visited while it is visited. So what is out of order below stable variables has the
      order of these, and where something else that matters is visited meanwhile, its order to that.
    * If all gates from which b is reached without further gates reach a, too, and before b, then a is visited before b:
      whichever of them comes first. (So it is with the outputs of a layer, which all outputs of the next one read.)
      Then what a dominates is visited before what b dominates. (So it is with the rows of a sum.)
    """

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        total = graph.first + len(graph.opcodes)
        self.total, self.root = total, 3 * total  # the gates of a variable are total + 2 * variable and the next one
        self.parents: dict[int, list[int]] = {self.root: []}
        self._sure: dict[int, dict[int, int]] = {}
        self._entries: dict[int, frozenset[int]] = {}
        self._agree: dict[tuple[int, ...], bool] = {}
        self._visit()
        self._dominate()

    def is_gate(self, node: int) -> bool:
        return self.total <= node < self.root

    def children(self, node: int) -> list[int]:
        graph = self.graph
        if node == self.root:
            return graph.roots
        if self.is_gate(node):
            select, place = divmod(node - self.total, 2)
            return [operand for k, operand in graph.receivers[select - graph.first] if k == place + 1]
        if node < graph.first:
            return []
        receivers = graph.receivers[node - graph.first]
        if graph.is_select(node):
            return [self.total + 2 * node + place - 1 for place, _ in receivers]
        return [operand for _, operand in receivers]

    def _visit(self) -> None:
        """Depth first, with all gates open."""
        self.tree: dict[int, int] = {self.root: self.root}
        self.begin: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.order: list[int] = []
        stack = [(self.root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                self.end[node] = len(self.begin)
                self.order.append(node)
                continue
            if node in self.begin:
                continue
            self.begin[node] = len(self.begin)
            stack.append((node, True))
            for child in reversed(self.children(node)):
                if child not in self.begin:
                    self.tree[child] = node  # the last one that is set before the visit is that of the visit
                    stack.append((child, False))
        for node in reversed(self.order):
            for child in self.children(node):
                self.parents.setdefault(child, []).append(node)

    def _dominate(self) -> None:
        """Dominators, and how many gates and unstable dominators there are above each node."""
        self.dominator, self.depth = {self.root: self.root}, {self.root: 0}
        self.gates: dict[int, int] = {}
        self.unstable: dict[int, int] = {self.root: 0}
        self.last: dict[int, int] = {self.root: self.root}  # the nearest dominator (or itself) that is unstable
        for node in sorted(self.begin, key=self.begin.__getitem__):  # a parent in the tree comes before
            above = self.gates[self.tree[node]] if node != self.root else 0
            self.gates[node] = above + self.is_gate(node)
        for node in reversed(self.order):
            if node == self.root:
                continue
            common, *others = self.parents[node][::-1]
            for each in others:
                common = self._common(common, each)
            self.dominator[node], self.depth[node] = common, self.depth[common] + 1
            stable = self.gates[self.tree[node]] == self.gates[common]
            self.unstable[node] = self.unstable[common] + (not stable)
            self.last[node] = self.last[common] if stable else node

    def _common(self, a: int, b: int) -> int:
        depth, dominator = self.depth, self.dominator
        while a != b:
            if depth[a] >= depth[b]:
                a = dominator[a]
            else:
                b = dominator[b]
        return a

    def unproven(self) -> set[int]:
        """The selects that are to blame where the order is not proven."""
        graph, result = self.graph, set[int]()
        crossing = {user for s in graph.uses if graph.is_select(s) for user, place in graph.uses[s]}
        for variable, alive in graph.alive.items():
            if alive < 3:
                continue
            users = {self._user(user, place) for user, place in graph.uses[variable]} - {self.root}
            if not self._in_order(users, self.dominator[variable]):
                result = result.union(*(self._gates_above(user, self.dominator[variable]) for user in users))
            result = result.union(*(self._crossed(user, variable) for user in users if user in crossing))
        return result

    def _user(self, user: int, place: int) -> int:
        """Who hands something to a variable: behind a select with one user, that user."""
        graph = self.graph
        while user >= 0 and graph.is_select(user) and len(graph.uses[user]) == 1:
            ((user, _),) = graph.uses[user]
        return self.root if user < 0 else user

    def _crossed(self, user: int, variable: int) -> set[int]:
        """Selects of a user that come before the variable among its operands, and may be the variable."""
        graph, result = self.graph, set[int]()
        if graph.is_select(user) or user == self.root:
            return result
        receivers = graph.receivers[user - graph.first]
        direct = [k for k, (_, operand) in enumerate(receivers) if operand == variable]
        for _, operand in receivers[: direct[-1]] if direct else ():
            todo = [operand]
            while todo:
                each = todo.pop()
                if graph.is_select(each) and len(graph.uses[each]) == 1:
                    sides = [side for _, side in graph.receivers[each - graph.first]]
                    todo += sides
                    if variable in sides:
                        result.add(each)
        return result

    def _in_order(self, users: set[int], above: int) -> bool:
        """Whether users below a dominator are visited in an order that does not depend on the gates."""
        late: dict[int, list[int]] = {}
        points: list[int] = []
        for user in users:
            if self.unstable[user] == self.unstable[above]:
                points.append(user)
                continue
            top = user
            while self.unstable[self.dominator[self.last[top]]] > self.unstable[above]:
                top = self.dominator[self.last[top]]
            late.setdefault(self.last[top], []).append(user)
        if not late:
            return True
        places: dict[int, list[int]] = {}
        for top in late:
            places.setdefault(self.dominator[top], []).append(top)
        for place, tops in places.items():
            inner = [each for each in places if self._is_inside(each, place)]
            stable = {each for each in {*points, *inner} if self._is_inside(each, place)}
            tops += [each for each in stable if not any(self._is_inside(each, other) for other in inner)]
        return all(self._same_order(tuple(sorted(each, key=self.begin.__getitem__))) for each in places.values()) and (
            all(len(group) == 1 or self._in_order(set(group), top) for top, group in late.items())
        )

    def _is_inside(self, node: int, other: int) -> bool:
        """Whether a node is visited first while another one is, with all gates open."""
        return self.begin[other] < self.begin[node] < self.end[other]

    def _same_order(self, nodes: tuple[int, ...]) -> bool:
        """Whether these are visited in this order, as far as they are, from whatever gates they are reached."""
        if len(nodes) == 1:
            return True
        if nodes not in self._agree:
            self._agree[nodes] = self._reached_alike(nodes)
        return self._agree[nodes]

    def _reached_alike(self, nodes: tuple[int, ...]) -> bool:
        if any(self.end[a] > self.begin[b] for a, b in itertools.pairwise(nodes)):
            return False
        entries = self._entries_of(nodes[0])
        if any(self._entries_of(node) != entries for node in nodes[1:]):
            return len(nodes) <= _PAIRS and all(itertools.starmap(self._comes_before, itertools.combinations(nodes, 2)))
        for entry in entries:
            turns = self._turns_from(entry)
            if any(turns[a] > turns[b] for a, b in itertools.pairwise(nodes)):
                return False
        return True

    def _comes_before(self, a: int, b: int) -> bool:
        """Whether from all gates from which b is reached, a is reached before; or one of them excludes the other."""
        common = self._common(a, b)
        pairs = itertools.product(self._tops(a, common), self._tops(b, common))
        if any(self._reached_before(*each) for each in pairs):
            return True
        conditions = self.graph.conditions
        return a in conditions and b in conditions and _excludes(conditions[a], conditions[b])

    def _tops(self, node: int, above: int) -> list[int]:
        """A node, and nodes that dominate it, below one: it is visited while these are."""
        path = []
        while node != above:
            if not self.is_gate(node):
                path.append(node)
            node = self.dominator[node]
        return path[:1] + path[: -_TOPS - 1 : -1]

    def _reached_before(self, a: int, b: int) -> bool:
        turns = map(self._turns_from, self._entries_of(b))
        return self.end[a] <= self.begin[b] and all(each.get(a, self.root) < each[b] for each in turns)

    def _entries_of(self, node: int) -> frozenset[int]:
        """The gates (or the root) from which a node is reached without further gates."""
        todo = [node]
        while todo:
            each = todo[-1]
            if each in self._entries:
                todo.pop()
                continue
            inner = [n for n in self.parents[each] if n != self.root and not self.is_gate(n)]
            missing = [n for n in inner if n not in self._entries]
            if missing:
                todo += missing
                continue
            outer = {n for n in self.parents[each] if n == self.root or self.is_gate(n)}
            self._entries[each] = frozenset(outer.union(*(self._entries[n] for n in inner)))
        return self._entries[node]

    def _turns_from(self, entry: int) -> dict[int, int]:
        """When each node is reached from a gate without further gates."""
        if entry not in self._sure:
            turns: dict[int, int] = {}
            stack = [entry]
            while stack:
                node = stack.pop()
                if node in turns:
                    continue
                turns[node] = len(turns)
                stack += [child for child in reversed(self.children(node)) if not self.is_gate(child)]
            self._sure[entry] = turns
        return self._sure[entry]

    def _gates_above(self, node: int, above: int) -> set[int]:
        """The selects on the path to a node."""
        result = set()
        while node != above and node != self.root:
            node = self.tree[node]
            if self.is_gate(node):
                result.add((node - self.total) // 2)
        return result
