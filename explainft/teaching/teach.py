"""`explainft teach`: asks teachers for explanations, keeps those of gold answers, and writes them as rows.

    cote  few-shot chain of thought; an explanation is kept where its answer equals gold
    rp    the gold answer is in the prompt (rationalization)
    crop  cote, and rp for each explanation that cote did not give

Source: Li et al. 2022, arXiv 2210.06726.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from explainft.core.atomic_files import check_writable, open_output, refuse_unwritable
from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl
from explainft.samples.journal import locked
from explainft.teaching.accounting import Account
from explainft.teaching.client import Receive
from explainft.teaching.exemplars import Prompts
from explainft.teaching.journal import AnswerJournal
from explainft.teaching.judging import ACCEPTED, FAILED, OTHER_ANSWER, Verdict, judge, make_row
from explainft.teaching.prices import Tokens, bound
from explainft.teaching.questions import Questions
from explainft.teaching.requests import Answer, Request, Settings, make_requests

METHODS = {"cote": ("cote",), "rp": ("rp",), "crop": ("cote", "rp")}  # and the stages of each
_OWN_FIELDS = {"id": str, "question": str, "explanation": str, "source": str}


class Teacher(Protocol):
    """Writes answers. `journaled`: they are kept in the journal. `faults`: unusable responses by kind."""

    journaled: bool
    faults: Any

    def ask(self, requests: Sequence[Request], receive: Receive) -> None:
        """Calls `receive` with the answer of each request, in any order; not at all for one that failed."""
        ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """A method with its teacher. `teacher` None: of a dry run."""

    method: str
    settings: Settings
    teacher: Teacher | None


@dataclasses.dataclass(frozen=True)
class Teaching:
    """What is explained, how often and by which stages, and into which file.

    `unfiltered`: what gives another answer than gold is written too, with that answer.
    """

    questions: Questions
    prompts: Prompts
    stages: Sequence[Stage]
    number: int
    output: Path
    journal: AnswerJournal
    unfiltered: bool = False

    def __post_init__(self):
        for stage in self.stages:
            if stage.method not in self.prompts.templates:
                raise UserError(f"the exemplars have no [{stage.method}]; give a file with it, or another --method")
            if self.number > 1 and stage.settings.temperature == 0:
                raise UserError(
                    f"--num_explanations={self.number} at temperature 0 asks for the same text again; "
                    "give a --temperature above 0"
                )

    def requests(self, stage: Stage, earlier: Sequence[Request]) -> list[Request]:
        """Returns what a stage asks: all, or after an earlier stage what that did not give."""
        wanted = {(request.question.id, request.index) for request in earlier}
        made = make_requests(self.questions.questions, stage.method, self.number, self.prompts, stage.settings)
        if stage is self.stages[0]:
            return made
        return [request for request in made if (request.question.id, request.index) in wanted]

    def judge(self, requests: Sequence[Request], answers: Mapping[str, Answer]) -> list[Verdict]:
        problem, templates = self.questions.problem, self.prompts.templates
        return [judge(problem, templates[one.method], one, answers.get(one.key)) for one in requests]


def check_output(output: Path) -> None:
    """Refuses a file that explanations cannot be written to: before any request is sent."""
    check_writable(output)
    if not output.exists():
        return
    try:
        read_jsonl(output, _OWN_FIELDS)
    except UserError as error:
        raise UserError(f"{output} exists and is not of `explainft teach`; give another --output") from error


def teach(run: Teaching) -> Account:
    """Asks what has no answer yet and writes the output. Whatever stops it, answers that came stay in the journal."""
    check_output(run.output)
    with locked(run.output):
        return _teach(run)


def _teach(run: Teaching) -> Account:
    account = Account(run.questions.problem)
    rows: list[tuple[Request, Answer, Verdict]] = []
    rejected: list[Request] = []
    for stage in run.stages:
        requests = run.requests(stage, rejected)
        answers = _obtain(run, stage, requests)
        verdicts = run.judge(requests, answers)
        for request, verdict in zip(requests, verdicts, strict=True):
            account.add(request, answers.get(request.key), verdict)
            if verdict.outcome == ACCEPTED or (run.unfiltered and verdict.outcome == OTHER_ANSWER):
                rows.append((request, answers[request.key], verdict))
        used = {request.key for request in requests}
        account.add_tokens(answer for key, answer in answers.items() if key in used)
        # What has no response yet is not rejected: the next run asks it again.
        rejected = [
            one for one, verdict in zip(requests, verdicts, strict=True) if verdict.outcome not in (ACCEPTED, FAILED)
        ]
        assert stage.teacher is not None
        account.faults.update(stage.teacher.faults)
        stage.teacher.faults.clear()
    _write(run, rows)
    return account


def _obtain(run: Teaching, stage: Stage, requests: Sequence[Request]) -> dict[str, Answer]:
    """Returns the answers by key, those that came in earlier runs included."""
    teacher = stage.teacher
    assert teacher is not None
    if not teacher.journaled:
        answers: dict[str, Answer] = {}
        teacher.ask(requests, lambda request, answer: answers.__setitem__(request.key, answer))
        return answers
    answers = run.journal.read()
    pending = _pending(requests, answers)
    if not pending:
        return answers
    with tqdm(total=len(requests), desc=stage.method, unit=" answers", disable=None, leave=False) as bar:
        bar.initial = bar.n = len(requests) - len(pending)

        def receive(request: Request, answer: Answer) -> None:
            run.journal.add(request.key, answer)
            answers[request.key] = answer
            bar.update()

        try:
            teacher.ask(pending, receive)
        except KeyboardInterrupt:
            bar.close()
            kept = sum(request.key in answers for request in requests)
            print(
                f"stopped: {kept:,} of {len(requests):,} answers are in {run.journal.path}; "
                "rerun the same command to resume",
                file=sys.stderr,
            )
            raise
        finally:
            run.journal.close()
    for request in pending:
        if request.needs(answers.get(request.key)):  # a cut answer whose second request failed
            answers.pop(request.key, None)
    return answers


def _pending(requests: Sequence[Request], answers: Mapping[str, Answer]) -> list[Request]:
    """Returns the requests to send: each key once."""
    unique = {request.key: request for request in requests}
    return [request for key, request in unique.items() if request.needs(answers.get(key))]


def _write(run: Teaching, rows: Sequence[tuple[Request, Answer, Verdict]]) -> None:
    """Writes the explanations in the order of the questions."""
    places = {question.id: place for place, question in enumerate(run.questions.questions)}
    ordered = sorted(rows, key=lambda row: (places[row[0].question.id], row[0].index))
    with refuse_unwritable(run.output), open_output(run.output) as file:
        for request, answer, verdict in ordered:
            row = make_row(request, answer, verdict, run.number)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def plan(run: Teaching) -> tuple[list[str], Tokens]:
    """Returns what the run would ask, a line each, and a bound of the tokens. Sends nothing.

    While answers of the first stage are missing, the requests of the second are a bound: all without an explanation.
    """
    lines, rejected, waiting = [], [], False
    to_send: list[Request] = []
    for stage in run.stages:
        requests = run.requests(stage, rejected)
        stored = stage.teacher is not None and not stage.teacher.journaled
        answers = _obtain(run, stage, requests) if stored else run.journal.read()
        pending = [] if stored else _pending(requests, answers)
        lines.append(
            f"{stage.method}: {'at most ' if waiting else ''}{len(requests):,} explanations to ask for, "
            f"{len(pending):,} requests to send"
        )
        waiting = bool(pending)
        missing = {request.key for request in pending}
        verdicts = zip(requests, run.judge(requests, answers), strict=True)
        rejected = [one for one, verdict in verdicts if one.key in missing or verdict.outcome != ACCEPTED]
        to_send += pending
    tokens = bound(to_send)
    lines.append(
        f"tokens without retries: at most {tokens.prompt:,} of prompts (about {tokens.likely_prompt:,} where they are "
        f"English), at most {tokens.completion:,} of answers"
    )
    return lines, tokens
