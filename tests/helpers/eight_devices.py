"""Prints, as JSON, how far three steps on eight simulated devices differ from one device: for sharding_test.

python -m tests.helpers.eight_devices
"""

import dataclasses
import json

import jax
import numpy as np
import optax

from explainft.generation import decoding
from explainft.generation.quantization import DTYPES, decode_parameters
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.labels import Labels
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.model.verifier_losses import MarginLoss
from explainft.parallel import sharding
from explainft.training import optimizers
from explainft.training.train_state import abstract_state, init_state
from explainft.training.train_step import make_train_step

# Small, because compiling is what takes time; eight heads, which 1x8 splits over all devices.
CONFIG = T5Config(
    vocab_size=64, emb_dim=32, num_heads=8, num_encoder_layers=1, num_decoder_layers=1, head_dim=4, mlp_dim=64,
    dropout_rate=0.1,
)  # fmt: skip
DEEPER = dataclasses.replace(CONFIG, num_encoder_layers=2)  # for a scan
MARGIN = MarginLoss(Labels(((5, 7, 1), (9, 1))), margin=1.0)
# Each way of executing is part of one choice, so that few programs compile.
CHOICES = {
    "plain": {},
    "fsdp, full remat, chunks": {"fsdp": True, "remat_policy": "full", "max_logits": 1024},
    "bfloat16": {"matmul_precision": "bfloat16"},
    "all": {
        "fsdp": True,
        "remat_policy": "minimal",
        "scan_layers": True,
        "microbatches": 2,
        "max_logits": 512,
    },
    "margin": {"loss": MARGIN, "microbatches": 2},
}
# On each mesh, data x model: where both axes are split, all ways together.
TRIED = {
    "8x1": ("plain", "fsdp, full remat, chunks"),
    "4x2": ("all", "bfloat16", "margin"),
    "2x4": ("plain",),
    "1x8": ("plain",),
}
DECODED = {"8x1": ("float32",), "4x2": DTYPES, "2x4": ("bfloat16",), "1x8": ("float32", "int8")}


def batch(seed, pairs=False):
    rng = np.random.default_rng(seed)
    inputs, targets = (rng.integers(2, 64, (16, n)).astype(np.int32) for n in (20, 12))
    inputs[3, 10:] = targets[5, 6:] = 0
    shifted = np.roll(targets, 1, axis=1)
    shifted[:, 0] = 0
    features = {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": (inputs > 0).astype(np.int32),
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
        "decoder_segment_ids": (targets > 0).astype(np.int32),
    }
    return {name: x.reshape(-1, 2, x.shape[-1]) if pairs else x for name, x in features.items()}


def keep_gradients():
    """An optax transformation that changes nothing and remembers what it was given."""
    return optax.GradientTransformation(lambda params: params, lambda grads, state, params=None: (grads, grads))


def three_steps(mesh, fsdp=False, microbatches=1, config=CONFIG, loss=Loss(z_loss=1e-4), **execution):  # noqa: B008
    """Returns the losses of three steps, gradients and parameters after them, and a device's fraction of a kernel."""
    tx = optax.chain(keep_gradients(), optimizers.adafactor(lambda _: 1e-2))
    abstract = abstract_state(config, tx, mesh, fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    state = jax.device_put(init_state(config, tx, 0), shardings)
    with jax.set_mesh(mesh):
        model = T5(config, ExecutionConfig(**execution))
        step = make_train_step(model, tx, loss, 0, microbatches, shardings)
        losses = []
        for i in range(4):
            params = jax.device_get(state.params)  # after three steps, when the fourth's gradients are taken
            state, sums = step(state, sharding.put_batch(batch(i, pairs=loss.group == 2), mesh))
            losses.append(float(sums["loss_sum"]))
    kernel = state.params["encoder"]["layers_0"]["mlp"]["wi"]["kernel"]
    fraction = kernel.addressable_shards[0].data.size / kernel.size
    return np.array(losses), jax.device_get(state.opt_state[0]), params, fraction


def difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in pairs)


def decode(params, dtype):
    """Decodes greedily; in lower precision with a smaller output vocabulary."""
    output_ids = None if dtype == "float32" else range(1, 40)
    inputs = [row[row > 0] for row in batch(9)["encoder_input_tokens"]]
    return decoding.generate(T5(CONFIG), decode_parameters(CONFIG, params, dtype, output_ids), inputs, 8, len(inputs))


def main():
    one = sharding.make_mesh(1, jax.devices()[:1])
    expected = {
        "plain": three_steps(one),
        "bfloat16": three_steps(one, matmul_precision="bfloat16"),
        # Each microbatch samples its own dropout: one device with as many is what to compare with.
        "all": three_steps(one, microbatches=2, config=DEEPER),
        "margin": three_steps(one, **CHOICES["margin"]),
    }
    params = expected["plain"][2]
    outputs = {dtype: decode(params, dtype) for dtype in DTYPES}
    differences = {}
    for name in TRIED:
        mesh = sharding.make_mesh(int(name.split("x")[1]))
        for choice in TRIED[name]:
            config = DEEPER if choice == "all" else CONFIG
            losses, gradients, end, fraction = three_steps(mesh, config=config, **CHOICES[choice])
            one_losses, one_gradients, one_end, _ = expected.get(choice, expected["plain"])
            differences[f"{name} {choice}"] = {
                "loss": float(np.abs(losses / one_losses - 1).max()),
                "gradients": difference(gradients, one_gradients),
                "parameters": difference(end, one_end),
                "fraction": fraction,
            }
        sharded = jax.device_put(params, sharding.shardings(params, params, mesh))
        for dtype in DECODED[name]:
            pairs = zip(decode(sharded, dtype), outputs[dtype], strict=True)
            differences[f"{name} decoding {dtype}"] = sum(output != one for output, one in pairs)
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
