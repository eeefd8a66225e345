"""Sample files of small ListOps problems, in the layout of `explainft sample`."""

import random
from collections.abc import Sequence
from pathlib import Path

from explainft import listops
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem
from explainft.samples.files import make_sample, write_rows


def write_samples(path: Path, problems: int = 6, samples: int = 8, seed: int = 0, score: bool = False) -> Path:
    """Writes problems whose samples are correct half of the time, some without an answer."""
    rng = random.Random(seed)
    rows = []
    for i in range(problems):
        example = {"question": f"[MAX {i} 2 ]", "answer": max(i, 2), "style": "medium", "modulus": 10}
        target = Target(get_problem("listops"), example)
        texts = [
            f"Max, largest number of [{i}, 2] is {a}\nFinal answer: {a}" if a < 10 else "none"
            for a in rng.choices([max(i, 2), *range(11)], weights=[11, *[1] * 11], k=samples)
        ]
        outputs = [make_sample(target, t, logprob=-rng.random(), tokens=rng.randint(9, 20), cut=False) for t in texts]
        scores = [{"score": rng.random()} if score else {} for _ in outputs]
        sampling = {"problem": "listops", "form": None}
        found = [{**sample, **own} for sample, own in zip(outputs, scores, strict=True)]
        rows.append({"id": f"{seed}-{i}", **example, "sampling": sampling, "samples": found})
    path.write_text("".join(write_rows(rows)), encoding="utf-8")
    return path


def sampled_row(i: int, correct: int = 2, incorrect: int = 2, style: str = "medium", **changed) -> dict:
    """A problem's line. Its correct samples are equal, its incorrect ones end in spaces of different numbers."""
    question = f"[MAX {i % 10} [MIN {i // 10 % 10} {i // 100 % 10} 9 ] 1 ]"
    tree = listops.parse(question)
    example = {"id": f"p{i}", "question": question, "answer": listops.evaluate(tree), "style": style, "modulus": 10}
    target, gold = Target(get_problem("listops"), example), listops.explain(tree, style)
    texts = [gold] * correct
    wrong = (example["answer"] + 1) % 10
    texts += [
        gold.replace(f"Final answer: {example['answer']}", f"Final answer: {wrong}") + " " * j for j in range(incorrect)
    ]
    samples = [make_sample(target, text, logprob=-2.0, tokens=20, cut=False) for text in texts]
    assert [sample["correct"] for sample in samples] == [True] * correct + [False] * incorrect
    return {**example, "gold": gold, "sampling": {"problem": "listops", "form": None}, "samples": samples, **changed}


def write_sample_rows(path: Path, rows: Sequence[dict]) -> Path:
    """Writes a sample file and returns its path."""
    path.write_text("".join(write_rows(rows)), encoding="utf-8")
    return path
