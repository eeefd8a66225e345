"""What a compiled program moves, counted in the text of its HLO: the bodies of loops as often as they run.

XLA's own cost analysis counts a loop's body once, however often it runs; with scanned layers that is most of the work.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8,
         "u64": 8, "f64": 8}  # fmt: skip
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# They move nothing by themselves, or what they move is counted where it is used.
FREE = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional", "after-all", "iota")

COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
ON_CHIP = "S(1)"  # in an array's layout: it lies in the core's own memory


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of HLO. Arrays are (bytes of an element in memory, dimensions); what stays on the chip has 0 bytes."""

    name: str
    opcode: str
    outputs: list[tuple[int, tuple[int, ...]]]
    operands: list[str]
    called: list[str]
    trips: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one device, for one run: bytes to and from its memory, bytes of each kind of collective and their number."""

    bytes_accessed: float
    collectives: dict[str, float]
    counts: dict[str, int]


def costs(text: str) -> Costs:
    """Counts a compiled program."""
    computations = parse(text)
    entry = re.search(r"^ENTRY %?([\w.-]+)", text, re.MULTILINE)
    assert entry is not None
    accessed = 0.0
    collectives: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for computation, times, inside_fusion in _runs(computations, entry[1]):
        arrays = {i.name: i.outputs for i in computation}
        for i in computation:
            kind = i.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                collectives[kind] += times * _size(i.outputs)
                counts[kind] += times
            if not inside_fusion and i.opcode not in FREE and not i.opcode.endswith("-done"):
                read = sum(_size(arrays.get(name, [])) for name in i.operands)
                accessed += times * (_size(i.outputs) + read)
    return Costs(accessed, dict(collectives), dict(counts))


def parse(text: str) -> dict[str, list[Instruction]]:
    """The instructions of each computation."""
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if start := COMPUTATION.match(line):
            current = computations.setdefault(start[1], [])
        elif (found := INSTRUCTION.match(line)) and (parsed := _instruction(found[1], found[2])):
            current.append(parsed)
    return computations


def _instruction(name: str, rest: str) -> Instruction | None:
    head = re.match(r"(\(.*?\)|\S+) ([\w-]+)\((.*)$", rest)
    if not head:
        return None
    kind, opcode, tail = head[1], head[2], head[3]
    operands = re.findall(r"%([\w.-]+)", tail.split("), ")[0])
    called = re.findall(r"(?:calls|body|to_apply|called_computations=\{)=?%?([\w.-]+)", tail)
    trips = re.search(r'known_trip_count":\{"n":"(\d+)"', tail)
    return Instruction(name, opcode, _arrays(kind), operands, called, int(trips[1]) if trips else 1)


def _arrays(kind: str) -> list[tuple[int, tuple[int, ...]]]:
    found = ARRAY.findall(kind)
    return [
        (0 if ON_CHIP in layout else BYTES[kind], tuple(map(int, dims.split(","))) if dims else ())
        for kind, dims, layout in found
        if kind in BYTES
    ]


def _size(arrays: list[tuple[int, tuple[int, ...]]]) -> int:
    return sum(width * math.prod(shape) for width, shape in arrays)


def _runs(computations: dict[str, list[Instruction]], entry: str) -> Iterator[tuple[list[Instruction], int, bool]]:
    """Each computation, how often it runs, and whether it is the inside of a fusion, whose arrays stay on the chip."""
    waiting = [(entry, 1, False)]
    while waiting:
        name, times, fused = waiting.pop()
        yield computations.get(name, []), times, fused
        for i in computations.get(name, []):
            for called in i.called:
                inside = fused or i.opcode == "fusion"
                if i.opcode in ("fusion", "call", "while", "conditional", "async-start"):
                    waiting.append((called, times * i.trips, inside))
