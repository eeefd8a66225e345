"""Makes the files beside it: python -m tests.golden.make --t5x-commit COMMIT

From the repository's root, with torch, transformers and a T5X checkout on PYTHONPATH. COMMIT is the checkout's, and is
written down with the other versions in made_with.json.
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform

import numpy as np

from explainft.model.loss import Loss
from tests.golden import cases, from_hugging_face, from_t5x

FOLDER = pathlib.Path(__file__).parent
PACKAGES = ("numpy", "torch", "transformers", "jax", "flax", "optax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t5x-commit", required=True)
    commit = parser.parse_args().t5x_commit
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    hugging_face()
    t5x()
    made_with = {"versions": {"python": platform.python_version(), **versions, "t5x": commit}}
    made_with["digests"] = cases.digests()
    (FOLDER / "made_with.json").write_text(json.dumps(made_with, indent=2) + "\n")


def hugging_face() -> None:
    arrays = {}
    for family, config in cases.FAMILIES.items():
        params, batch = cases.random_params(config), cases.padded(config)
        logits, loss, gradients = from_hugging_face.loss_and_gradients(config, params, batch)
        arrays |= network_arrays(family, cases.real(batch, logits), loss, gradients)
        prompts = cases.prompts(config, cases.GOLDEN_PROMPTS)
        outputs, leads = from_hugging_face.generate(
            config, cases.decoding_params(config), prompts, cases.DECODE_LENGTH, batch_size=8
        )
        arrays[f"{family} outputs"] = np.array([ids + [-1] * (cases.DECODE_LENGTH - len(ids)) for ids in outputs], "i1")
        arrays[f"{family} leads"] = np.array(leads, np.float32)
    np.savez_compressed(FOLDER / "hugging_face.npz", **arrays)


def t5x() -> None:
    arrays = {}
    for family, config in cases.FAMILIES.items():
        params, batch = cases.random_params(config), cases.packed(config)
        logits, loss, gradients = from_t5x.loss_and_gradients(config, params, batch, Loss(**cases.FULL_LOSS))
        arrays |= network_arrays(family, cases.real(batch, logits), loss, gradients)
    for name, config in cases.FACTORED.items():
        params = cases.random_params(config)
        optimizer = from_t5x.Adafactor(config, params, cases.ADAFACTOR_RATE)
        for k, (new_params, slots) in enumerate(cases.adafactor_course(optimizer, params)):
            if k in cases.GOLDEN_UPDATES:
                arrays[f"{name} {k} params"] = cases.summary(new_params)
                arrays |= {f"{name} {k} {slot}": cases.summary(values) for slot, values in slots.items()}
    np.savez_compressed(FOLDER / "t5x.npz", **arrays)


def network_arrays(family: str, logits_NV: np.ndarray, loss: float, gradients: cases.Flat) -> dict[str, np.ndarray]:
    return {
        f"{family} logits": logits_NV[:: cases.GOLDEN_STRIDE],
        f"{family} loss": np.array(loss),
        f"{family} gradients": cases.summary(gradients),
    }


if __name__ == "__main__":
    main()
