"""FLOPs of a function's matmuls, counted in its jaxpr: exact, and the same on any machine."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def matmul_flops(function: Callable[..., Any], *arguments: Any, while_trips: int = 1) -> int:
    """Returns 2 x the multiply-adds of all matmuls of function(*arguments); arguments may be jax.ShapeDtypeStructs.

    What is rematerialized counts again. A while loop counts as `while_trips` runs of its body.
    """
    return jaxpr_matmul_flops(jax.make_jaxpr(function)(*arguments).jaxpr, while_trips)


def jaxpr_matmul_flops(jaxpr: Any, while_trips: int = 1) -> int:
    """Returns the same of a jaxpr."""
    total = 0
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[d] for d in contracted)
        elif equation.primitive.name == "cond":
            total += max(jaxpr_matmul_flops(branch.jaxpr, while_trips) for branch in params["branches"])
        else:
            times = {"scan": params.get("length", 1), "while": while_trips}.get(equation.primitive.name, 1)
            total += times * sum(jaxpr_matmul_flops(inner, while_trips) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """Yields the jaxprs that an equation calls."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
