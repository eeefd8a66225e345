"""Lists of numbers, to be sorted or copied."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from explainft.data.synthetic.rows import IN_DOMAIN, VERSION, Row, question_row, select

FORMS = ("answer",)


@dataclass(frozen=True)
class Sampler:
    """What lists are made of, uniformly."""

    numbers: range = range(30)
    lengths: range = range(3, 9)

    def list(self, rng: random.Random) -> str:
        """Returns numbers, separated by spaces."""
        length = self.lengths[int(rng.random() * len(self.lengths))]
        return " ".join(str(self.numbers[int(rng.random() * len(self.numbers))]) for _ in range(length))


SAMPLERS = dict.fromkeys(IN_DOMAIN, Sampler()) | {
    "longer": Sampler(lengths=range(9, 17)),
    "larger_numbers": Sampler(numbers=range(30, 100)),
}
SPLITS = tuple(SAMPLERS)


def rows(config: str, form: str, split: str) -> Iterator[Row]:
    """Yields the rows of `sort` or `copy`; those in domain have disjoint lists."""
    del form  # the answer alone
    stream = "train" if split in IN_DOMAIN else split
    rng = random.Random(f"synthetic:{VERSION} {config} {stream}")
    for numbers in select(iter(lambda: SAMPLERS[split].list(rng), None), split):
        answer = " ".join(sorted(numbers.split(), key=int)) if config == "sort" else numbers
        yield question_row(f"{config}: {numbers}", answer, "text", "answer", question=numbers, answer=answer)
