"""Two processes of four simulated devices share the problems; their samples are those of one process with one."""

import pytest

from explainft.checkpoints import convert
from explainft.evaluation.infer import PRETRAINED
from explainft.generation.quantization import DecodeConfig
from explainft.generation.sampling import SamplingConfig
from explainft.samples import sampling
from explainft.samples.files import read_samples
from explainft.samples.inputs import QuestionInputs
from explainft.samples.sampling import SampleRun
from tests.parallel.hosts_test import Hosts


def test_samples_of_two_hosts_equal_those_of_one_device(tmp_path):
    expressions = [f"[SUM {i} 4 [MAX 2 {j} ] 7 ]" for i in range(5) for j in range(4)]
    questions, output, one = tmp_path / "questions.txt", tmp_path / "two.jsonl", tmp_path / "one.jsonl"
    questions.write_text("\n".join(expressions))
    flags = ["--num_samples=3", "--temperature=2", "--top_p=0.95", "--seed=7", f"--output={output}"]
    Hosts(tmp_path, 2, "sample", PRETRAINED, f"--input={questions}", "--batch_size=24", *flags).succeed()
    run = SampleRun(one, 3, SamplingConfig(2.0, top_p=0.95, seed=7), DecodeConfig(), batch_size=9)
    sampling.sample(convert.open_weights(str(PRETRAINED)), QuestionInputs(expressions), run)
    pairs = list(zip(read_samples(output), read_samples(one), strict=True))
    assert [problem.id for problem, _ in pairs] == [problem.id for _, problem in pairs]
    for problem, expected in pairs:
        assert [found.text for found in problem.samples] == [found.text for found in expected.samples]
        logprobs = [found.logprob for found in problem.samples]
        assert logprobs == pytest.approx([found.logprob for found in expected.samples], rel=1e-4, abs=1e-5)
    assert problem.row["sampling"] == expected.row["sampling"]
    assert len({found.text for problem, _ in pairs for found in problem.samples}) > len(pairs)
