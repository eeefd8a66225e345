"""Model, loss, Adafactor and decoding against numbers of Hugging Face and T5X for the same weights.

tests/golden/make.py made the files; hf_test.py and t5x_network_test.py compare with the living libraries.
"""

import functools
import json
import pathlib

import numpy as np
import pytest

from explainft.generation import decoding
from explainft.model.loss import Loss
from explainft.model.t5 import T5
from tests.golden import cases, from_explainft
from tests.golden.from_explainft import relative_difference

FOLDER = pathlib.Path(__file__).parent


@functools.cache
def golden(source: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{source}.npz") as file:
        return dict(file)


def test_weights_and_inputs_equal_those_of_the_files():
    assert cases.digests() == json.loads((FOLDER / "made_with.json").read_text())["digests"]


@pytest.mark.parametrize("family", cases.FAMILIES)
@pytest.mark.parametrize(
    ("source", "batch", "loss", "tolerance"),
    [
        ("hugging_face", cases.padded, Loss(), 1e-4),
        ("t5x", cases.packed, Loss(**cases.FULL_LOSS), 1e-5),
    ],
    ids=["hugging_face", "t5x"],
)
def test_logits_loss_and_gradients(source, batch, loss, tolerance, family):
    config, expected = cases.FAMILIES[family], golden(source)
    arrays = batch(config)
    logits, value, gradients = from_explainft.loss_and_gradients(config, cases.random_params(config), arrays, loss)
    sample = cases.real(arrays, logits)[:: cases.GOLDEN_STRIDE]
    assert relative_difference(sample, expected[f"{family} logits"]) < tolerance
    assert value == pytest.approx(float(expected[f"{family} loss"]), rel=tolerance)
    for row, expected_row in zip(cases.summary(gradients), expected[f"{family} gradients"], strict=True):
        assert relative_difference(row, expected_row) < tolerance


@pytest.mark.parametrize("name", cases.FACTORED)
def test_adafactor_from_step_0_and_restored(name):
    params, expected = cases.random_params(cases.FACTORED[name]), golden("t5x")
    optimizer = from_explainft.Adafactor(params, cases.ADAFACTOR_RATE)
    for k, (new_params, slots) in enumerate(cases.adafactor_course(optimizer, params)):
        if k in cases.GOLDEN_UPDATES:
            for row, expected_row in zip(cases.summary(new_params), expected[f"{name} {k} params"], strict=True):
                assert relative_difference(row, expected_row) < 1e-5
            for slot, values in slots.items():
                np.testing.assert_allclose(cases.summary(values), expected[f"{name} {k} {slot}"], rtol=1e-5)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_greedy_decoding(family):
    config, prompts = cases.FAMILIES[family], cases.prompts(cases.FAMILIES[family], cases.GOLDEN_PROMPTS)
    decoded = decoding.generate(T5(config), cases.decoding_params(config), prompts, cases.DECODE_LENGTH, len(prompts))
    # Machines round otherwise: where two logits were closer than this, the other token may be as right.
    firm = np.flatnonzero(golden("hugging_face")[f"{family} leads"] > 1e-4)
    outputs = golden("hugging_face")[f"{family} outputs"]
    expected = [ids[ids >= 0].tolist() for ids in outputs[firm]]
    assert len({tuple(ids) for ids in expected}) >= 15 and len({len(ids) for ids in expected}) >= 5
    assert [decoded[i] for i in firm] == expected
