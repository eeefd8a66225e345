"""Block expansion: a checkpoint as one of more layers, which computes the same until it is trained.

An added layer copies one of the checkpoint's, but its output projections are zero: it passes on what it is given (LLaMA
Pro, Wu et al. 2024, arXiv 2401.02415). Added layers stand after those of the checkpoint.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.parameters import parameter_shapes

_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/(.*)")
_OUTPUT_PROJECTIONS = ("/out/kernel", "/wo/kernel")  # of attention and of the feed-forward layer


def expand_blocks(weights: Weights, config: T5Config) -> Weights:
    """Returns the weights with as many layers as the config; without Adafactor's slots, which added layers lack.

    Raises UserError where the checkpoint has more layers than the config.
    """
    layers = weights.architecture()
    present = {"encoder": layers.num_encoder_layers, "decoder": layers.num_decoder_layers}
    wanted = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    for stack, number in present.items():
        if number > wanted[stack]:
            raise UserError(
                f"BLOCK_EXPANSION adds layers, but {weights.origin} has {number} {stack} layers and the model only "
                f"{wanted[stack]}; give --gin.NUM_{stack.upper()}_LAYERS={number} or more"
            )
    if present == wanted:
        return weights

    def source(name: str) -> str | None:
        """Returns the parameter that an added layer's copies; None where the checkpoint has the parameter itself."""
        match = _LAYER.fullmatch(name)
        if match is None or int(match[2]) < present[match[1]]:
            return None
        stack, number, rest = match.groups()
        return f"{stack}/layers_{int(number) % present[stack]}/{rest}"

    def read(name: str) -> np.ndarray:
        copied = source(name)
        if copied is None:
            return weights.read(name)
        array = weights.read(copied)
        return np.zeros_like(array) if name.endswith(_OUTPUT_PROJECTIONS) else array

    added = {name: shape for name, shape in parameter_shapes(config).items() if source(name) is not None}
    more = " and ".join(f"{wanted[stack] - present[stack]} added {stack} layers" for stack in ("encoder", "decoder"))
    changes: dict[str, Any] = {
        "origin": f"{weights.origin} with {more}",
        "parameters": {**weights.parameters, **added},
        "read": read,
        "read_slot": None,
    }
    if weights.config is not None:
        numbers = {"num_encoder_layers": wanted["encoder"], "num_decoder_layers": wanted["decoder"]}
        changes["config"] = dataclasses.replace(weights.config, **numbers)
    return dataclasses.replace(weights, **changes)
