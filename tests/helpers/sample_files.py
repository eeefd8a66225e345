"""Sample files of ListOps problems, in the layout of `explainft sample`."""

import random
from pathlib import Path

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
