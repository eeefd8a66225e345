"""`explainft data samples`: sample files as a TFDS-format dataset, see explainft.data.sample_datasets."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from explainft.core.errors import UserError, require_count, require_positive
from explainft.data.questions.importing import SHARD_ROWS, SPLITS, check_name, new_dataset
from explainft.data.sample_datasets import DATASET, EACH_STEP, ROWS, VERSION, SampleDescriptor, pack_digests
from explainft.samples.examples import (
    FEATURES,
    SampleExample,
    Selection,
    describe_generator,
    drop_surplus,
    generator_words,
    make_examples,
    question_digest,
)
from explainft.samples.files import SampledProblem, read_samples
from explainft.samples.prompts import read_prompt


@dataclasses.dataclass(frozen=True)
class SamplesDataset:
    """What to make: the kinds of `rows`, files of each split, and which samples are taken."""

    name: str
    rows: list[str]
    files: Mapping[str, Sequence[Path]]
    selection: Selection
    overwrite: bool = False

    def __post_init__(self):
        check_name(self.name)
        require_count(**{"--seed": self.selection.seed})
        require_positive(**{"--per_problem": self.selection.per_problem})
        if "verifier" in self.rows and self.selection.balance == "problem" and self.selection.per_problem % 2:
            n = self.selection.per_problem
            raise UserError(f"--per_problem={n} must be even, half correct and half incorrect; try {n + 1}")
        if self.selection.labeled_by == EACH_STEP and self.selection.prompt != read_prompt("decoder"):
            raise UserError(f"--labeled_by {EACH_STEP} has labels in the decoder; give --prompt decoder")
        for split in self.files:
            if split not in SPLITS:
                raise UserError(f"split {split!r} must be one of {', '.join(SPLITS)}")
        for split in ("train", "validation"):
            if split not in self.files:
                raise UserError(f"no file of the split {split}; give train=FILE and validation=FILE, of other problems")


def make_dataset(settings: SamplesDataset, data_dir: Path) -> tuple[Path, list[str]]:
    """Writes the dataset below `data_dir` and returns its directory and a report. Raises UserError.

    A validation or test problem that is among the training problems, by its normalized question, is refused.
    """
    problems = {split: _read(split, files) for split, files in settings.files.items()}
    generator = _check_generator(problems)
    _check_questions(problems)
    from explainft.data.questions import records  # TensorFlow

    directory = data_dir / DATASET / f"{settings.name}_{'_'.join(settings.rows)}" / VERSION
    writers, report = {}, []
    with new_dataset(directory, settings.overwrite) as scratch:
        for split, of_split in problems.items():
            counts = Counter[str]()
            with records.Writer(scratch, DATASET, split, SHARD_ROWS, FEATURES, ()) as writer:
                for example in _examples(split, of_split.values(), settings, counts):
                    writer.write(example)
            report.append(_summary(split, len(of_split), counts))
            for kind in settings.rows:
                if not counts[kind]:
                    reasons = " and ".join(_left_out(counts))
                    raise UserError(
                        f"{split} gives no example for the rows {kind!r}: {reasons}; sample more, or other problems"
                    )
            writers[split] = writer
        described = f"Samples of {settings.name}: {', '.join(settings.rows)}."
        records.write_metadata(scratch, list(writers.values()), DATASET, directory.parent.name, VERSION, described)
        SampleDescriptor(
            name=settings.name,
            rows=settings.rows,
            generator=generator,
            prompt=settings.selection.prompt,
            labeled_by=settings.selection.labeled_by,
            examples={split: writer.rows for split, writer in writers.items()},
            digests={split: writer.digest() for split, writer in writers.items()},
            questions=pack_digests(problems["train"].keys()),
        ).write(scratch)
    return directory, report


def _examples(
    split: str, problems: Collection[SampledProblem], settings: SamplesDataset, counts: Counter[str]
) -> Iterator[SampleExample]:
    """Yields the examples of a split; counts them, and the problems that give none."""
    selection, verifier = settings.selection, list[SampleExample]()
    for problem in tqdm(problems, desc=f"examples of {split}", unit=" problems", disable=None):
        for kind in settings.rows:
            examples = make_examples(kind, problem, selection, counts)
            if kind == "verifier" and selection.balance == "dataset":
                verifier += examples
            else:
                yield from examples
    if verifier:
        kept = drop_surplus(verifier, selection.seed)
        counts["verifier"] = len(kept)
        yield from kept


def _read(split: str, files: Sequence[Path]) -> dict[int, SampledProblem]:
    """Returns the problems of a split by the digests of their questions; samples of one in several files are joined."""
    problems: dict[int, SampledProblem] = {}
    for file in files:
        for problem in tqdm(read_samples(file), desc=f"reading {split}", unit=" problems", disable=None):
            digest = question_digest(problem.target)
            if earlier := problems.get(digest):
                problem = dataclasses.replace(earlier, samples=(*earlier.samples, *problem.samples))
            problems[digest] = problem
    return problems


def _check_generator(problems: Mapping[str, Mapping[int, SampledProblem]]) -> dict:
    """Returns what the outputs of all problems are read by. Raises UserError where they differ."""
    first = None
    for split, of_split in problems.items():
        for problem in of_split.values():
            found = describe_generator(problem.target)
            first = first or found
            if found != first:
                raise UserError(
                    f"id {problem.id!r} of {split} has samples of {generator_words(found)}, and other problems have "
                    f"some of {generator_words(first)}; make a dataset of each"
                )
    assert first is not None  # no sample file is empty
    return first


def _check_questions(problems: Mapping[str, Mapping[int, SampledProblem]]) -> None:
    for split in problems:
        both = problems[split].keys() & problems["train"].keys() if split != "train" else set()
        if both:
            name = problems[split][min(both)].id
            raise UserError(
                f"{len(both):,} of {_problems(len(problems[split]))} of {split} are also in train, such as id "
                f"{name!r}; sample other problems for one of the two"
            )


def _summary(split: str, problems: int, counts: Counter[str]) -> str:
    """Returns a line on a split: examples by kind, and the problems that gave none."""
    examples = ", ".join(f"{counts[kind]:,} {kind}" for kind in ROWS if counts[kind])
    left_out = " and ".join(_left_out(counts))
    return f"{split}: {examples} examples of {_problems(problems)}" + (f"; left out {left_out}" if left_out else "")


def _left_out(counts: Counter[str]) -> list[str]:
    return [f"{_problems(n)} with {reason}" for reason, n in counts.items() if reason not in ROWS]


def _problems(n: int) -> str:
    return f"{n:,} problem" + ("" if n == 1 else "s")
