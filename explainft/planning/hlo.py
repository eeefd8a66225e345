"""What a compiled program moves, counted in the text of its HLO: the bodies of loops as often as they run.

XLA's own cost analysis counts a loop's body once, however often it runs; with scanned layers that is most of the work.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8,
         "u64": 8, "f64": 8}  # fmt: skip
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Their outputs hold their operands too.
GIVE_BACK = tuple(f"{kind}-start" for kind in COLLECTIVES if kind != "all-reduce")
# They access no memory, or the instruction that uses their output counts it.
FREE = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "call", "after-all", "iota")
FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")
RENAMING = ("bitcast", "reshape", "get-tuple-element")
PARTS = ("dynamic-slice", "slice", "gather")  # they read as much as they write

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
# In an array's layout: where it lies, if not in the chip's large memory.
ON_CHIP = "S(1)"
SEMAPHORE = "S(2)"


class Array(NamedTuple):
    size: int  # bytes
    near: bool  # in the core's own memory

    @property
    def far_size(self) -> int:
        return 0 if self.near else self.size


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of HLO; `rest` is the text after the opening bracket of its operands."""

    root: bool
    name: str
    opcode: str
    outputs: list[Array]
    operands: list[str]
    rest: str

    def called(self, role: str) -> str:
        """Returns the computation that it calls as `calls`, `body`, `condition` or `to_apply`; else an empty string."""
        found = re.search(rf"{role}=%?([\w.-]+)", self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Costs:
    """Counts of one device and one run: bytes to and from memory, bytes and number of each kind of collective.

    A collective's bytes are those of its larger side: what it gathers, or what it reduces.
    """

    bytes_accessed: float
    collectives: dict[str, float]
    counts: dict[str, int]

    def bytes_sent(self) -> float:
        """Returns the bytes that the chip sends, among many chips: an all-reduce sends its operand twice."""
        return sum(size * (2 if kind == "all-reduce" else 1) for kind, size in self.collectives.items())


def costs(text: str, while_trips: int = 1) -> Costs:
    """Counts a compiled program; a loop of unknown length counts as `while_trips` runs of its body."""
    computations = parse(text)
    entry = re.search(r"^ENTRY %?([\w.-]+)", text, re.MULTILINE)
    assert entry is not None
    accessed = 0.0
    collectives: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for computation, times, inside_fusion in _runs(computations, entry[1], while_trips):
        for i in computation.values():
            kind = i.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                inputs = sum(a.size for a in _operands(i, computation))
                outputs = sum(a.size for a in i.outputs) - (inputs if i.opcode in GIVE_BACK else 0)
                collectives[kind] += times * max(inputs, outputs)
                counts[kind] += times
            if not inside_fusion:
                accessed += times * _accessed(i, computation, computations)
    return Costs(accessed, dict(collectives), dict(counts))


def parse(text: str) -> dict[str, Computation]:
    """Returns the instructions of each computation by their names."""
    computations: dict[str, Computation] = {}
    current: Computation = {}
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            current = computations.setdefault(start[1], {})
        elif found := INSTRUCTION.match(line):
            operands = re.findall(r"%([\w.-]+)", found[5].split("), ")[0])
            current[found[2]] = Instruction(bool(found[1]), found[2], found[4], _arrays(found[3]), operands, found[5])
    return computations


def _arrays(kind: str) -> list[Array]:
    return [
        Array(BYTES[name] * math.prod(map(int, dims.split(",")) if dims else ()), ON_CHIP in layout)
        for name, dims, layout in ARRAY.findall(kind)
        if name in BYTES and SEMAPHORE not in layout
    ]


def _operands(i: Instruction, computation: Computation) -> list[Array]:
    return [a for name in i.operands if name in computation for a in computation[name].outputs]


def _runs(
    computations: dict[str, Computation], entry: str, while_trips: int
) -> Iterator[tuple[Computation, int, bool]]:
    """Yields each computation, how often it runs, and whether a fusion contains it, whose arrays stay on the chip."""
    waiting = [(entry, 1, False)]
    while waiting:
        name, times, fused = waiting.pop()
        computation = computations.get(name, {})
        yield computation, times, fused
        for i in computation.values():
            if i.opcode == "while":
                waiting.append((i.called("body"), times * _trips(i, computations, while_trips), fused))
            elif i.opcode in ("fusion", "async-start"):
                waiting.append((i.called("calls"), times, fused or i.opcode == "fusion"))
            elif i.opcode == "call":
                waiting.append((i.called("to_apply"), times, fused))


def _trips(loop: Instruction, computations: dict[str, Computation], unknown: int) -> int:
    """Returns the trip count of a loop: the compiler's, or the constant that its counter is compared with."""
    if noted := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(noted[1])
    condition = computations.get(loop.called("condition"), {})
    for i in condition.values():
        if i.root and i.opcode == "compare" and "direction=LT" in i.rest:
            limit = condition.get(i.operands[-1])
            if limit and limit.opcode == "constant" and (number := re.match(r"(\d+)\)", limit.rest)):
                return int(number[1])
    return unknown


def _accessed(i: Instruction, computation: Computation, computations: dict[str, Computation]) -> float:
    """Returns the bytes that an instruction reads from the chip's memory and writes to it."""
    if i.opcode in FREE or i.opcode.endswith("-done") or any(f'target="{name}"' in i.rest for name in FREE_CALLS):
        return 0
    operands = _operands(i, computation)
    written = sum(a.far_size for a in i.outputs)
    if i.opcode == "fusion":
        body = computations.get(i.called("calls"), {})
        sources = [computation[name].outputs for name in i.operands if name in computation]
        read = sum(
            min(a.size, _read_inside(body, number, computations))
            for number, arrays in enumerate(sources)
            for a in arrays
            if not a.near
        )
        return read + min(written, _written_inside(body, computations))
    if i.opcode in PARTS:
        return written + (0 if operands[0].near else i.outputs[0].size)
    if i.opcode in ("slice-start", "dynamic-slice-start"):  # ((operands), result, semaphore)
        result = i.outputs[len(operands)]
        return result.far_size + (0 if operands[0].near else result.size)
    if i.opcode == "dynamic-update-slice":  # in place
        return operands[1].far_size + (0 if i.outputs[0].near else operands[1].size)
    if i.opcode in ("copy-start", *GIVE_BACK):  # the outputs hold the operands
        return written
    return written + sum(a.far_size for a in operands)


def _read_inside(body: Computation, number: int, computations: dict[str, Computation]) -> float:
    """Returns the bytes that a fusion reads of an operand of which it takes slices; infinity: all of it."""
    own = [i.name for i in body.values() if i.opcode == "parameter" and i.rest.startswith(f"{number})")]
    total, waiting = 0.0, own
    while waiting:
        name = waiting.pop()
        for user in body.values():
            if name not in user.operands:
                continue
            if user.opcode in RENAMING and not user.root:
                waiting.append(user.name)
            elif user.opcode in PARTS and user.operands[0] == name:
                total += user.outputs[0].size
            elif user.opcode == "fusion":
                inner = computations.get(user.called("calls"), {})
                total += _read_inside(inner, user.operands.index(name), computations)
            elif user.opcode == "tuple" and user.root:
                continue  # returned in place
            elif not (user.opcode == "dynamic-update-slice" and user.operands.index(name) == 0):
                return math.inf
    return total


def _written_inside(body: Computation, computations: dict[str, Computation]) -> float:
    """Returns the bytes that a fusion writes to an operand that it updates in place; infinity: all outputs."""
    total, waiting = 0.0, [i for i in body.values() if i.root]
    while waiting:
        i = waiting.pop()
        if i.opcode in RENAMING or i.opcode == "tuple":
            waiting += [body[name] for name in i.operands if name in body]
        elif i.opcode == "dynamic-update-slice":
            total += sum(a.size for a in body[i.operands[1]].outputs)
        elif i.opcode == "fusion":
            total += _written_inside(computations.get(i.called("calls"), {}), computations)
        elif i.opcode != "parameter":
            total += sum(a.size for a in i.outputs)
    return total
