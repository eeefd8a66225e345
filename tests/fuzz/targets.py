"""Readers of outside text, each as a function of bytes: it returns, or raises one of its named errors.

An exception of any other kind is a bug.
"""

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from explainft import listops
from explainft.checkpoints.convert import open_weights
from explainft.core.errors import UserError
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.questions.examples import question_of
from explainft.data.questions.files import read_rows
from explainft.data.questions.layouts import LAYOUTS, Unreadable
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation.inference_inputs import QuestionReader
from explainft.listops.release import read_release
from explainft.listops.render import render_tree
from explainft.problems.registry import PROBLEMS
from explainft.recipes import recipe
from explainft.reporting.predictions import read_file
from explainft.samples.foreign import Fields
from explainft.samples.layouts import read_any
from explainft.serving.batch import Limits
from explainft.serving.errors import ApiError
from explainft.serving.fields import parse_body
from explainft.serving.requests import RequestReader

SHARED_MEMORY = "/dev/shm"
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-", dir=SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
TREE = listops.parse("[MAX 2 9 [MIN 4 7 ] [MED 1 2 3 ] [SM 8 9 ] ]")
RECIPE = SCRATCH / "recipe.gin"
RECIPE.write_text("include 'gin/runs/infer.gin'\n")
VOCABULARY = Vocabulary(COMPACT)
LIMITS = Limits(rows=4, input_length=400, output_length=50, usual=(16, 16))
READERS = [
    RequestReader("tiny", VOCABULARY, 160, LIMITS, 16, QuestionReader(problem, "explain_answer", 20))
    for problem in sorted(PROBLEMS)
]
EXAMPLES = {
    "choice": {"question": "Where?", "choices": ["a den", "a nest"], "answer": "a den"},
    "math": {"question": "How many?", "answer": "\\frac{1}{2}"},
    "text": {"question": "Who?", "answer": "Ann"},
    "listops": {"question": listops.format(TREE), "answer": "9", "style": "medium", "modulus": 10},
    "listops_step": {"question": listops.format(TREE), "answer": "9", "style": "medium", "modulus": 10},
}


class Target(NamedTuple):
    """A reader with the errors that it may raise, and the inputs that fuzzing starts from."""

    function: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Sequence[bytes]

    def run(self, data: bytes) -> None:
        """Reads one input. Raises what is not a named error."""
        with contextlib.suppress(*self.errors):
            self.function(data)


def expression(data: bytes) -> None:
    tree = listops.parse(_text(data))
    assert listops.parse(listops.format(tree)) == tree
    if len(data) < 500:
        render_tree(tree)


def explanation(data: bytes) -> None:
    text = _text(data)
    listops.final_answer(text)
    listops.lines(text)
    for style in listops.STYLES:
        listops.check(text, TREE, style)
        listops.first_error(text, TREE, style)


def release(data: bytes) -> None:
    list(read_release(_file("release.tsv", data)))


def questions(data: bytes) -> None:
    for _, row in read_rows(_file("rows.jsonl", data)):
        for layout in LAYOUTS:
            for problem in PROBLEMS.values():
                with contextlib.suppress(Unreadable):
                    question_of(problem, layout, row, "id", answered=False).example()


def answers(data: bytes) -> None:
    output, _, other = _text(data).partition("\x00")
    for name, problem in PROBLEMS.items():
        example = EXAMPLES[name]
        found = problem.read_answer(output, example)
        problem.equal(found or output, other, example)
        problem.check(output, example)


def binding(data: bytes) -> None:
    recipe.load([str(RECIPE)], [_text(data).replace("\x00", "")])


def predictions(data: bytes) -> None:
    read_file(_file("predictions.jsonl", data))


def samples(data: bytes) -> None:
    file = _file("samples.jsonl", data)
    for arguments in ((None, None, None), ("math", None, None), ("math", None, Fields("output", answer="label"))):
        with contextlib.suppress(UserError):
            read_any(file, *arguments)


def request(data: bytes) -> None:
    body = parse_body(data)
    for reader in READERS:
        for read in (reader.completion, reader.chat):
            with contextlib.suppress(ApiError):
                read(body)


def checkpoint(data: bytes) -> None:
    """A T5X checkpoint in one file, and the files of a Hugging Face directory."""
    name, _, content = data.partition(b"\n")
    folder = SCRATCH / "checkpoint"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    names = {b"c": "config.json", b"s": "model.safetensors", b"t": "checkpoint"}
    if name[:1] == b"s":
        (folder / "config.json").write_text(CONFIG)
    (folder / names.get(name[:1], "checkpoint")).write_bytes(content)
    open_weights(str(folder))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _file(name: str, data: bytes) -> Path:
    path = SCRATCH / name
    path.write_bytes(data)
    return path


def _lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


CONFIG = json.dumps({"model_type": "t5", "d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 8, "num_layers": 1})
LISTOPS = {"input": {"inputs": "x"}, "target": EXAMPLES["listops"], "prediction": "Final answer: 9", "cut": False}
SAMPLED = {
    "id": "1", "question": "1 + 1?", "answer": "2", "gold": "2", "sampling": {"problem": "math", "form": None},
    "samples": [{"text": "2", "logprob_sum": -1.0, "logprob_mean": -0.5, "tokens": 2, "finish_reason": "stop"}],
}  # fmt: skip

TARGETS = {
    "expressions": Target(expression, (listops.ListOpsError,), [b"[MAX 2 9 [MIN 4 7 ] 0 ]", b"( ( [MED 1 ) 2 ) ]"]),
    "explanations": Target(
        explanation, (), [listops.explain(TREE, style).encode() for style in listops.STYLES] + [b"; ;\nFinal answer:"]
    ),
    "release": Target(
        release, (UserError,), [b"Source\tTarget\n[MAX 1 2 ]\t2\n", b'[MIN 1 ]\t"Min\nFinal answer: 1"\n']
    ),
    "questions": Target(
        questions, (UserError,),
        [_lines(EXAMPLES["choice"], {"question": "Is it?", "answer": True}), b'[{"question": "a", "answer": 1}]',
         _lines({"id": "1", "question": {"stem": "a", "choices": [{"label": "A", "text": "b"}]}, "answerKey": "A"})],
    ),
    "answers": Target(
        answers, (), [b"The answer is (a).\x00a den", b"\\boxed{\\frac{2}{4}}\x000.5", b"So 3 + 4 = 7 #### 7\x007",
                      b"2003^{2002^{2001}}\x001,000", b"Final answer: 9\x009"]
    ),
    "bindings": Target(binding, (UserError,), [b"MODEL_DIR=runs/x", b"BATCH_SIZE=[1, {'a': 2.5}]", b"STEP=%MODEL_DIR"]),
    "predictions": Target(predictions, (UserError,), [_lines(LISTOPS, LISTOPS)]),
    "samples": Target(
        samples, (UserError,),
        [_lines(SAMPLED), _lines(LISTOPS), _lines({"question": "1 + 1?", "label": "2", "output": ["2", "so 3"]})],
    ),
    "requests": Target(
        request, (ApiError,),
        [json.dumps({"model": "tiny", "prompt": "a", "n": 2, "temperature": 0.5, "stop": ["."]}).encode(),
         json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "a"}], "explainft": {}}).encode()],
    ),
    "checkpoints": Target(
        checkpoint, (UserError,),
        [b"c\n" + CONFIG.encode(), b"t\n\x82\xa6target\x80\xa5state\x80", b's\n\x10\0\0\0\0\0\0\0{"a":{"dtype":1}}'],
    ),
}  # fmt: skip
