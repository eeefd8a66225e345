"""Three steps on eight simulated devices in every way, as differences from one device, in JSON: for sharding_test.

python -m tests.helpers.eight_devices
"""

import json

import jax
import numpy as np
import optax

from explainft.generation import decoding
from explainft.generation.quantization import DTYPES, decode_parameters
from explainft.model.config import T5Config
from explainft.model.execution import ExecutionConfig
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.training import optimizers
from explainft.training.train_state import abstract_state, init_state
from explainft.training.train_step import make_train_step

CONFIG = T5Config(
    vocab_size=64, emb_dim=32, num_heads=8, num_encoder_layers=2, num_decoder_layers=1, head_dim=4, mlp_dim=64,
    dropout_rate=0.1,
)  # fmt: skip
CHOICES = {
    "plain": {},
    "fsdp": {"fsdp": True},
    "remat": {"remat_policy": "full"},
    "scan": {"scan_layers": True},
    "microbatches": {"microbatches": 2},
    "bfloat16": {"matmul_precision": "bfloat16"},
    "chunks": {"max_logits": 1024},  # from one position of the targets at a time to eight, as the mesh has it
    "all": {
        "fsdp": True,
        "remat_policy": "minimal",
        "scan_layers": True,
        "microbatches": 2,
        "max_logits": 512,
    },
}
# On each mesh, data x model: every choice where both axes are split, all together where the data alone are.
TRIED = {"8x1": ("plain", "all"), "4x2": tuple(CHOICES), "2x4": ("plain",), "1x8": ("plain",)}


def batch(seed):
    rng = np.random.default_rng(seed)
    inputs, targets = (rng.integers(2, 64, (16, n)).astype(np.int32) for n in (20, 12))
    inputs[3, 10:] = targets[5, 6:] = 0
    shifted = np.roll(targets, 1, axis=1)
    shifted[:, 0] = 0
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": (inputs > 0).astype(np.int32),
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
        "decoder_segment_ids": (targets > 0).astype(np.int32),
    }


def keep_gradients():
    """An optax transformation that changes nothing and remembers what it was given."""
    return optax.GradientTransformation(lambda params: params, lambda grads, state, params=None: (grads, grads))


def three_steps(mesh, fsdp=False, microbatches=1, **execution):
    """Losses of three steps, the gradients after them, the parameters, and how much of one of them a device holds."""
    tx = optax.chain(keep_gradients(), optimizers.adafactor(lambda _: 1e-2))
    like = abstract_state(CONFIG, tx, mesh, fsdp)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    state = jax.device_put(init_state(CONFIG, tx, 0), shardings)
    with jax.set_mesh(mesh):
        model = T5(CONFIG, ExecutionConfig(**execution))
        step = make_train_step(model, tx, Loss(z_loss=1e-4), 0, microbatches, shardings)
        losses = []
        for i in range(4):
            ended = jax.device_get(state.params)  # after three steps, when the fourth's gradients are taken
            state, sums = step(state, sharding.put_batch(batch(i), mesh))
            losses.append(float(sums["loss_sum"]))
    kernel = state.params["encoder"]["layers_0"]["mlp"]["wi"]["kernel"]
    share = kernel.addressable_shards[0].data.size / kernel.size
    return np.array(losses), jax.device_get(state.opt_state[0]), ended, share


def difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in pairs)


def written(params, dtype):
    """Greedy texts; of fewer bits, of some of the pieces alone."""
    pieces = None if dtype == "float32" else range(1, 40)
    inputs = [row[row > 0] for row in batch(9)["encoder_input_tokens"]]
    return decoding.generate(T5(CONFIG), decode_parameters(CONFIG, params, dtype, pieces), inputs, 8, len(inputs))


def main():
    one = sharding.make_mesh(1, jax.devices()[:1])
    # The dropout of a microbatch is drawn for itself: compare with one device that has as many.
    wanted = {n: three_steps(one, microbatches=n) for n in (1, 2)}
    rounded = three_steps(one, matmul_precision="bfloat16")
    params = wanted[1][2]
    texts = {dtype: written(params, dtype) for dtype in DTYPES}
    found = {}
    for name in TRIED:
        mesh = sharding.make_mesh(int(name.split("x")[1]))
        for choice in TRIED[name]:
            changes = CHOICES[choice]
            losses, gradients, ended, share = three_steps(mesh, **changes)
            of_one = rounded if choice == "bfloat16" else wanted[changes.get("microbatches", 1)]
            their_losses, their_gradients, their_end, _ = of_one
            found[f"{name} {choice}"] = {
                "loss": float(np.abs(losses / their_losses - 1).max()),
                "gradients": difference(gradients, their_gradients),
                "parameters": difference(ended, their_end),
                "share": share,
            }
        placed = jax.device_put(params, sharding.shardings(params, params, mesh))
        for dtype in DTYPES:
            pairs = zip(written(placed, dtype), texts[dtype], strict=True)
            found[f"{name} decoding {dtype}"] = sum(one != other for one, other in pairs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
