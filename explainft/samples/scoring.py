"""`explainft score`: a verifier's score of each sample, without decoding."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from explainft.checkpoints import convert
from explainft.checkpoints.weights import Weights
from explainft.core.atomic_files import open_output, refuse_unwritable
from explainft.core.errors import UserError
from explainft.data.sample_datasets import EACH_STEP, LABELS, label_lines, prefix_spans, unpack_digests
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.loading import load_model
from explainft.generation.likelihood import log_likelihoods, probabilities
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.model.labels import encode_labels
from explainft.samples.examples import describe_generator, generator_words, input_text, question_digest
from explainft.samples.files import SampledProblem, read_samples, write_rows
from explainft.samples.prompts import VerifierInput, fill_prompt, has_prefix, read_prompt


@dataclasses.dataclass(frozen=True)
class Verifier:
    """A checkpoint that scores solutions, and its prompt."""

    weights: Weights
    prompt: str
    batch_size: int
    decode_dtype: str = "float32"

    def score(self, inputs: Sequence[VerifierInput]) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the scores of filled prompts, and what they were made with, as the lines of a file have it.

        The scores [N] are p(correct) / (p(correct) + p(incorrect)), float64. A verifier of each step gives the product
        of those of all lines, each after lines that are correct. Repeated prompts cost once.
        """
        vocabulary = self.weights.tokenizer()
        labeled_by = self.weights.meta.get("verifier", {}).get("labeled_by", "answer")
        steps = [_steps(one) if labeled_by == EACH_STEP else [one] for one in inputs]
        distinct = list(dict.fromkeys(step for of_one in steps for step in of_one))
        tokens = [[*vocabulary.encode(text), EOS_ID] for text, _ in distinct]
        prefixes = None
        if has_prefix(self.prompt):
            spans = [prefix_spans(prefix, labeled_by) for _, prefix in distinct]
            prefixes = [[token for span in of_one for token in vocabulary.encode(span)] for of_one in spans]
        labels = encode_labels(LABELS, vocabulary)
        with tqdm(total=len(distinct), desc="scoring", unit=" solutions", disable=None, leave=False) as bar:
            loaded = load_model(self.weights, DecodeConfig(self.decode_dtype), self.batch_size)
            model, output_ids = loaded.model, self.weights.meta.get("output_ids")
            params = decode_parameters(model.config, loaded.params, self.decode_dtype, output_ids)
            found_N2 = log_likelihoods(model, params, tokens, labels, self.batch_size, bar.update, prefixes)
        score_of = dict(zip(distinct, probabilities(found_N2)[:, 0], strict=True))
        scoring = {"model": loaded.digest(), "step": self.weights.step, "prompt": self.prompt, "labeled_by": labeled_by}
        scores_N = np.array([math.prod(score_of[step] for step in of_one) for of_one in steps])
        return scores_N, {**scoring, "decode_dtype": self.decode_dtype}


def _steps(solution: VerifierInput) -> list[VerifierInput]:
    """Returns what is read before the label of each line."""
    lines = solution.prefix.split("\n")
    beginnings = ("\n".join(lines[:number]) for number in range(1, len(lines) + 1))
    return [VerifierInput(solution.inputs, label_lines(beginning)) for beginning in beginnings]


def score_file(
    checkpoint: str,
    file: Path,
    output: Path,
    step: int | str | None,
    batch_size: int,
    decode_dtype: str,
    prompt: str | None = None,
) -> list[SampledProblem]:
    """Writes the sample file with a `score` in each sample and a `scoring` in each line; returns the scored problems.

    `prompt`, by name or file, is that of a checkpoint which does not contain it. Raises UserError for samples of
    another problem than the verifier's, and for problems that it was trained on.
    """
    weights = convert.open_weights(checkpoint, step)
    verifier = Verifier(weights, _prompt(weights, prompt), batch_size, decode_dtype)
    problems = read_samples(file)
    _check_problems(weights, problems)
    inputs = [
        fill_prompt(verifier.prompt, input_text(problem.target), sample.text)
        for problem in problems
        for sample in problem.samples
    ]
    found_N, scoring = verifier.score(inputs)
    scores = iter(found_N.tolist())
    scored = [_with_scores(problem, [next(scores) for _ in problem.samples], scoring) for problem in problems]
    with refuse_unwritable(output), open_output(output) as stream:
        stream.writelines(write_rows([problem.row for problem in scored]))
    return scored


def _with_scores(problem: SampledProblem, scores: Sequence[float], scoring: Mapping[str, Any]) -> SampledProblem:
    rows = [{**row, "score": score} for row, score in zip(problem.row["samples"], scores, strict=True)]
    samples = [dataclasses.replace(sample, score=score) for sample, score in zip(problem.samples, scores, strict=True)]
    return dataclasses.replace(
        problem, samples=tuple(samples), row={**problem.row, "scoring": scoring, "samples": rows}
    )


def _prompt(weights: Weights, given: str | None) -> str:
    if "verifier" in weights.meta:
        if given is not None:
            raise UserError(
                f"{weights.origin} contains the prompt that it was trained with; leave out --prompt={given}"
            )
        return weights.meta["verifier"]["prompt"]
    if weights.meta:
        raise UserError(
            f"{weights.origin} was trained on {weights.meta['task']}, which must be a task of samples with the rows "
            "'verifier'; make one with `explainft data samples`"
        )
    if given is None:
        raise UserError(f"{weights.origin} does not contain the prompt that it was trained with; give it with --prompt")
    print(
        f"note: {weights.origin} does not contain its training questions: that no problem is among them is not checked",
        file=sys.stderr,
    )
    return read_prompt(given)


def _check_problems(weights: Weights, problems: Sequence[SampledProblem]) -> None:
    meta: Mapping[str, Any] = weights.meta
    if not meta:
        return
    expected, trained = meta["verifier"]["generator"], unpack_digests(meta["trained_questions"])
    for problem in problems:
        found = describe_generator(problem.target)
        if found != expected:
            raise UserError(
                f"id {problem.id!r} has samples of {generator_words(found)}, and {weights.origin} was trained on some "
                f"of {generator_words(expected)}; score samples of the verifier's own problem"
            )
    known = [problem.id for problem in problems if question_digest(problem.target) in trained]
    if known:
        raise UserError(
            f"{weights.origin} was trained on {len(known):,} of these {len(problems):,} problems, such as id "
            f"{known[0]!r}; score problems that it was not trained on"
        )
