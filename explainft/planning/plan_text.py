"""A plan as text, for a terminal."""

from collections.abc import Callable

from explainft.planning.compiler import OutOfMemory, Program
from explainft.planning.hardware import GIB
from explainft.planning.hlo import Costs
from explainft.planning.plan import Plan


def format_plan(plan: Plan) -> str:
    """Formats the hardware, the settings, a table of both programs, and whether they fit."""
    hardware = (
        f"{plan.num_devices} devices" if plan.hardware is None else f"{plan.num_devices} chips of {plan.hardware}"
    )
    lines = [f"{plan.topology}: {hardware}", plan.memory_config.flags(), *_table(plan), *_fits(plan)]
    if isinstance(plan.train_step, OutOfMemory):
        lines += _nearest(plan)
    if plan.seconds is not None:
        lines += _speed(plan, plan.seconds)
    return "\n".join(lines)


def format_number(number: float) -> str:
    """Formats with two decimals from 1 on, else with three significant digits."""
    return f"{number:,.2f}" if number >= 1 else f"{number:.3g}"


def _table(plan: Plan) -> list[str]:
    programs = (plan.train_step, plan.decoding)
    kinds = sorted({kind for p in programs if isinstance(p, Program) for kind in p.costs.collectives})
    cells: list[tuple[str, Callable[[Program], str]]] = [
        ("arguments, GiB", lambda p: f"{p.arguments / GIB:.3f}"),
        ("temporaries, GiB", lambda p: f"{p.temporaries / GIB:.3f}"),
        ("total, GiB", lambda p: f"{p.memory / GIB:.3f}"),
        ("matmuls, TFLOP", lambda p: format_number(p.flops / 1e12)),
        ("bytes accessed, GB", lambda p: format_number(p.costs.bytes_accessed / 1e9)),
        *((f"{kind}, GB", lambda p, kind=kind: _collective(p.costs, kind)) for kind in kinds),
    ]
    if hardware := plan.hardware:
        cells += [
            (f"roofline, {limit}, ms", lambda p, limit=limit: format_number(p.roofline_seconds(hardware)[limit] * 1e3))
            for limit in ("compute", "memory", "interconnect")
        ]
    cells.append(("compiled here in, s", lambda p: f"{p.compile_seconds:.0f}"))
    rows: list[tuple[str, ...]] = [("per device", "train step", "decoding a batch")]
    for name, cell in cells:
        rows.append((name, *(cell(p) if isinstance(p, Program) else "-" for p in programs)))
    width = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]:>{width[2]}}" for row in rows]


def _collective(costs: Costs, kind: str) -> str:
    return f"{format_number(costs.collectives.get(kind, 0) / 1e9)} ({costs.counts.get(kind, 0):,} x)"


def _fits(plan: Plan) -> list[str]:
    lines = []
    for name, program in (("the train step", plan.train_step), ("decoding", plan.decoding)):
        if isinstance(program, OutOfMemory):
            lines.append(f"{name} does not fit: {program}")
        elif plan.hardware:
            lines.append(f"{name} fits: {program.memory / GIB:.2f} GiB of {plan.hardware.memory / GIB:.0f} GiB")
    return lines


def _nearest(plan: Plan) -> list[str]:
    if plan.nearest is None:
        return ["no config that was tried fits; use more or larger chips"]
    config, program = plan.nearest
    flags = config.flags(plan.memory_config)
    return [f"would fit: {flags}, with about {program.memory / GIB:.1f} GiB; plan with --gin.NAME=VALUE of these"]


def _speed(plan: Plan, seconds: float) -> list[str]:
    rows = plan.batch_size / seconds
    speed = f"at least {format_number(seconds * 1e3)} ms per step, at most {rows:,.0f} rows/s"
    if plan.nearest:
        speed = f"with that config, about {speed}"
    if plan.examples_per_row is None:
        speed += "; examples per row are unknown: this machine has no token cache of the task"
    else:
        speed += f", {rows * plan.examples_per_row:,.0f} examples/s at {plan.examples_per_row:.2f} examples per row"
    if plan.hours is None:
        return [
            speed,
            "number of steps: unknown without the initial checkpoint's step; give --gin.INITIAL_STEP=1000000",
        ]
    steps = f"{plan.num_steps:,} steps in at least {format_number(plan.hours)} hours"
    return [speed, f"{steps}, evaluation and saving not counted"]
