"""The few-shot tasks, as SeqIO and the token cache read them."""

import json
import random

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data import few_shot, token_cache, tokenize
from explainft.data.few_shot import Demonstration, Pool, Template
from explainft.data.questions import forms
from explainft.data.questions.importing import Import, import_questions
from explainft.evaluation.metrics import score
from tasks import few_shot as few_shot_tasks
from tasks import few_shot_rows
from tasks.vocabularies import COMPACT_VOCABULARY
from tests.helpers.questions import rows, train_vocabulary, write_jsonl

MODULE = "tasks.few_shot"
SPLITS = {"train": 40, "validation": 6, "test": 5}
TEMPLATE = Template("Do it.", "\n\n", "Q: {question}\nA:", "{input} {target}")


@pytest.fixture
def homes(tmp_path, registries, seqio_unchanged, monkeypatch):
    """The rows of a dataset by split, with ids. Texts are compared, so that the vocabulary does not matter."""
    monkeypatch.setattr(few_shot_tasks, "T5_QUESTIONS", COMPACT_VOCABULARY)
    made = {
        split: [{**row, "id": f"{split} {i}"} for i, row in enumerate(rows(n, seed))]
        for seed, (split, n) in enumerate(SPLITS.items())
    }
    made["train"][3]["question"] = made["train"][1]["question"].upper() + "?"  # the same question in another spelling
    made["train"][3]["choices"] = made["train"][1]["choices"]
    made["train"][3]["answer"] = made["train"][1]["answer"]
    import_rows(tmp_path, "homes", made)
    return made


def import_rows(directory, name, made, demonstrations=None, **settings):
    files = {split: write_jsonl(directory / f"{split}.jsonl", of_split) for split, of_split in made.items()}
    if demonstrations is not None:
        settings["demonstrations"] = write_jsonl(directory / "demonstrations.jsonl", demonstrations)
    import_questions(Import(name, "choice", files, **settings), directory)
    seqio.set_tfds_data_dir_override(str(directory))
    few_shot_tasks.register_datasets()


def examples(task, split="validation", **lengths):
    few_shot_tasks.register_name(task)
    dataset = seqio.get_mixture_or_task(task).get_dataset(
        sequence_length=lengths or None, split=split, shuffle=False, trim_output_features=False
    )
    return list(tfds.as_numpy(dataset))


def text(example, name="inputs_pretokenized"):
    return example[name].decode()


def question(row):
    return forms.input_text(row["question"], row["choices"])


def template(name="training"):
    return few_shot.read_template(few_shot.template_file(name, None))


def shown(made, form="answer"):
    return [Demonstration(question(r), forms.target_text(form, r["answer"], r["explanation"])) for r in made]


def test_names(homes):
    for shots in few_shot.REGISTERED_SHOTS:
        for words in ("", "_reworded"):
            for variant, compact in (("homes_explain_answer", ""), ("tiny_medium", "_compact"), ("tiny_none", "")):
                name = f"explained_{variant}_{shots}_shot{words}"
                assert f"{name}{compact}" in seqio.TaskRegistry.names()
                assert f"{name}_eval_test{compact}" in seqio.TaskRegistry.names()
                mixture = seqio.MixtureRegistry.get(f"{name}_eval{compact}")
                assert {task.name.startswith(f"{name}_eval_") for task in mixture.tasks} == {True}


def test_choices_are_ranked_after_the_same_prompt(homes):
    name = "explained_homes_answer_2_shot_sampled_5_eval_test"
    ranked, decoded = examples(f"{name}_ranked"), examples(name)
    assert [text(a) for a in ranked] == [text(b) for b in decoded] and len(ranked) == SPLITS["test"]
    assert "explained_homes_answer_0_shot_reworded_eval_validation_ranked" in seqio.TaskRegistry.names()
    assert "explained_homes_explain_answer_0_shot_eval_test_ranked" not in seqio.TaskRegistry.names()


@pytest.mark.parametrize(("form", "words"), [("answer", "training"), ("explain_answer", "reworded")])
def test_fixed_demonstrations_are_the_first_training_questions(homes, form, words):
    suffix = "" if words == "training" else f"_{words}"
    demonstrations = shown([homes["train"][i] for i in (0, 1, 2, 4)], form)  # 3 is 1 in another spelling
    for row, example in zip(
        homes["test"], examples(f"explained_homes_{form}_4_shot{suffix}_eval_test", "test"), strict=True
    ):
        assert text(example) == template(words).prompt(demonstrations, question(row))
        assert text(example, "targets_pretokenized") == forms.target_text(form, row["answer"], row["explanation"])
    trained = examples(f"explained_homes_{form}_4_shot{suffix}", "train")
    assert [e["id"].decode() for e in trained] == [f"train {i}" for i in range(5, 40)]  # 3 is left out too


def test_without_demonstrations_the_template_is_the_same(homes):
    found = examples("explained_homes_answer_0_shot", "train")
    assert [text(e) for e in found] == [template().prompt((), question(row)) for row in homes["train"]]


def test_an_example_is_never_among_its_own_sampled_demonstrations(homes):
    distinct = [row for i, row in enumerate(homes["train"]) if i != 3]
    pool = shown(distinct)
    for split in ("train", "validation"):
        found = examples("explained_homes_answer_3_shot_sampled_7", split)
        assert len(found) == SPLITS[split]
        for row, example in zip(homes[split], found, strict=True):
            own = next((i for i, other in enumerate(distinct) if question(row) == question(other)), None)
            if row["id"] == "train 3":
                own = 1
            places = few_shot.choose_sampled(len(pool), 3, 7, row["id"], own)
            assert own not in places and (split != "train" or own is not None)
            assert text(example) == template().prompt([pool[place] for place in places], question(row))
    other = examples("explained_homes_answer_3_shot_sampled_8", "validation")
    assert [text(e) for e in other] != [text(e) for e in examples("explained_homes_answer_3_shot_sampled_7")]


def test_a_training_question_that_is_evaluated_is_no_fixed_demonstration(tmp_path, homes):
    train, other = homes["train"][:3], homes["train"][1]
    import_rows(tmp_path, "both", {"train": train, "test": [{**other, "question": other["question"].upper()}]})
    [example] = examples("explained_both_answer_1_shot_eval_test", "test")
    with pytest.raises(UserError, match="needs 2 different demonstrations, and the split train of both has 1"):
        examples("explained_both_answer_2_shot_eval_test", "test")  # the third is held out for validation
    assert text(example) == template().prompt(
        shown(train[:1]), question(other).replace(other["question"], other["question"].upper())
    )


def test_imported_demonstrations(tmp_path, homes):
    own = [*rows(3, seed=9), homes["train"][5]]
    import_rows(tmp_path, "own", homes, own)
    trained = examples("explained_own_answer_4_shot", "train")
    assert [e["id"].decode() for e in trained] == [f"train {i}" for i in range(40) if i != 5]
    assert text(trained[0]) == template().prompt(shown(own), question(homes["train"][0]))
    import_rows(tmp_path, "held_out", {"train": homes["train"]}, [homes["train"][39], *own[:1]])
    evaluated = examples("explained_held_out_answer_1_shot_eval_validation")
    assert [e["id"].decode() for e in evaluated] == ["train 38"]  # of the last twentieth


def test_a_planted_leak_is_refused(tmp_path, homes):
    planted = [*rows(2, seed=9), {**homes["test"][2], "question": f"  {homes['test'][2]['question'].upper()} "}]
    with pytest.raises(UserError, match=r"demonstrations.jsonl line 3: demonstration of the split test, which is eval"):
        import_rows(tmp_path, "leaking", homes, planted, strict=True)
    import_rows(tmp_path, "leaking", homes, planted)
    assert text(examples("explained_leaking_answer_2_shot_eval_test")[2]).count(homes["test"][2]["question"]) == 1
    with pytest.raises(UserError, match="a 3-shot prompt needs 3 different demonstrations, and .* has 2"):
        examples("explained_leaking_answer_3_shot_eval_test")
    file = tmp_path / "explained_questions" / "leaking" / "1.0.0" / "demonstrations.jsonl"
    file.write_text(file.read_text() + json.dumps(planted[2]) + "\n")  # past the import
    with pytest.raises(UserError, match=r"demonstrations.jsonl line 3 is a question of the split test"):
        examples("explained_leaking_answer_2_shot_eval_validation")


def test_fewer_demonstrations_than_shots_are_refused(tmp_path, homes):
    with pytest.raises(UserError, match="a 45-shot prompt needs 45 .* train of homes has 39; use at most 39 shots"):
        examples("explained_homes_answer_45_shot_eval_test")
    import_rows(tmp_path, "own", homes, rows(2, seed=9))
    with pytest.raises(UserError, match="a 3-shot prompt needs 3 different demonstrations, and .* has 2"):
        examples("explained_own_answer_3_shot_eval_test")
    import_rows(tmp_path, "alone", {"test": homes["test"]})
    with pytest.raises(UserError, match="the split train of alone has 0"):
        examples("explained_alone_answer_1_shot_eval_test")
    assert examples("explained_alone_answer_0_shot_eval_test")


def test_listops(tiny_data_dir, registries, seqio_unchanged):
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    plain = {split: examples("explained_tiny_short_compact", split) for split in ("train", "validation")}
    pool = [Demonstration(text(e), text(e, "targets_pretokenized")) for e in plain["train"]]
    trained = examples("explained_tiny_short_2_shot_compact", "train")
    assert [text(e) for e in trained] == [template().prompt(pool[:2], text(e)) for e in plain["train"][2:]]
    sampled = examples("explained_tiny_short_2_shot_sampled_3_compact", "train")
    for own, (example, given) in enumerate(zip(sampled, plain["train"], strict=True)):
        places = few_shot.choose_sampled(len(pool), 2, 3, text(given), own)
        assert own not in places
        assert text(example) == template().prompt([pool[place] for place in places], text(given))
    task = seqio.TaskRegistry.get("explained_tiny_short_2_shot_compact")
    targets = [task.postprocess_fn(text(e, "targets_pretokenized"), example=e, is_target=True) for e in trained[:9]]
    scores = score(targets, [text(e, "targets_pretokenized") for e in trained[:9]])
    assert scores["exact_match"] == scores["valid"] == 1.0
    assert COMPACT_VOCABULARY.decode(trained[0]["inputs"].tolist()) == text(trained[0])


def test_other_engines_read_the_same_inputs(tiny_data_dir, registries, seqio_unchanged):
    """T5X trains on seqio.get_dataset with lengths, and evaluates by seqio.Evaluator."""
    converter = seqio.EncDecFeatureConverter(pack=False)
    name = "explained_tiny_short_3_shot_reworded_sampled_5_compact"
    whole = token_cache.load(name, "validation", MODULE, tiny_data_dir)
    length = sorted(whole.inputs.lengths.tolist())[len(whole) // 2]
    cache = token_cache.load(name, "validation", MODULE, tiny_data_dir, input_lengths={name: length})
    assert len(cache.meta["demonstrations"]["shots"]) == 2
    lengths = {"inputs": length, "targets": 64}
    rows = seqio.get_dataset(name, lengths, converter, "validation", shuffle=False)
    assert token_ids(rows) == [cache.inputs[i].tolist() for i in range(len(cache))]

    name = "explained_tiny_short_3_shot_reworded_sampled_5_eval_test_compact"
    cache = token_cache.load(name, "test", MODULE, tiny_data_dir)
    evaluator = seqio.Evaluator(name, feature_converter=converter, eval_split="test")
    [rows] = evaluator.cached_model_datasets.values()
    assert token_ids(rows) == [cache.inputs[i].tolist() for i in range(len(cache))]


def token_ids(dataset):
    rows = [row["encoder_input_tokens"] if "encoder_input_tokens" in row else row[1]["encoder_input_tokens"]
            for row in tfds.as_numpy(dataset)]  # fmt: skip
    return [row[row > 0].tolist() for row in rows]


# ---- TensorFlow and Python agree.


def test_the_same_places_are_sampled():
    random.seed(0)
    for pool, shots in ((2, 1), (5, 4), (37, 3), (10_000, 8)):
        for own in (-1, 0, pool - 1):
            for name in ("", "a", "train 17", "é 中 \U0001f600", "x" * 500, str(random.random())):
                seed = random.randrange(2**40)
                found = few_shot_rows.choose_sampled(pool, shots, seed, tf.constant(name), tf.constant(own, tf.int64))
                assert found.numpy().tolist() == few_shot.choose_sampled(pool, shots, seed, name, own)


def demonstrate(inputs, limit=None, targets=None):
    pool = Pool([Demonstration("{target}", "{question}"), Demonstration("two\n", "\\1"), Demonstration("", "3")], {})
    dataset = tf.data.Dataset.from_tensor_slices({"inputs": inputs, "targets": inputs})
    features = {"inputs": seqio.Feature(COMPACT_VOCABULARY)}
    lengths = {} if limit is None else {"inputs": limit, **({} if targets is None else {"targets": targets})}
    settings = {"template": TEMPLATE, "shots": 3, "pool": pool, "seed": None}
    return list(tfds.as_numpy(few_shot_rows.demonstrate(dataset, features, lengths, **settings))), pool.demonstrations


def test_the_same_prompts_fit_at_every_length():
    asked = "[MAX 1 {question} 2 ]"
    [whole], pool = demonstrate([asked])
    prompts = [TEMPLATE.prompt(pool[:k], asked) for k in range(4)]
    assert whole["inputs"].decode() == prompts[3] and whole["num_demonstrations"] == 3

    def length(text):
        return len(COMPACT_VOCABULARY.encode(text)) + 1

    for k in range(4):  # a prompt that fits exactly, one token more, and one less
        for limit in (length(prompts[k]) + more for more in (-1, 0, 1)):
            [example], _ = demonstrate([asked], limit)
            fitting = few_shot.fit(prompts, length, limit)
            assert fitting == (max(k - 1, 0) if limit < length(prompts[k]) else k)
            assert example["num_demonstrations"] == fitting and example["inputs"].decode() == prompts[fitting]
    with pytest.raises(tf.errors.InvalidArgumentError, match="would cut a question without demonstrations"):
        demonstrate([asked], length(prompts[0]) - 1, targets=9)


# ---- The token cache.


def test_the_token_cache_counts_what_is_dropped(tmp_path, homes):
    file = str(train_vocabulary(tmp_path / "homes.model"))
    name = "explained_homes_answer_4_shot"

    def load(split="train", **settings):
        return token_cache.load(name, split, MODULE, str(tmp_path), vocabulary_file=file, **settings)

    whole = load()
    assert whole.demonstrations() == (
        f"demonstrations of {name} train: 35 with 4; 5 examples are left out: they are demonstrations"
    )
    longest = whole.lengths()["inputs"]
    assert load(input_lengths={name: longest}).meta["demonstrations"]["shots"] == {"4": 35}
    n_longest = int((whole.inputs.lengths == longest).sum())
    cut = load(input_lengths={name: longest - 1})
    assert cut.meta["demonstrations"] == {
        "shots": {"4": 35 - n_longest, "3": n_longest}, "left_out": 5, "limit": longest - 1,
    }  # fmt: skip
    assert cut.lengths()["inputs"] < longest
    assert len(load("validation", input_lengths={"another task": 5})) == 6
    dropped = int(whole.inputs.lengths.argmax())
    texts = [cache.vocabulary.decode(cache.inputs[dropped].tolist()) for cache in (whole, cut)]
    assert texts[1] == texts[0][: texts[1].rindex("\n\n")] + texts[0][texts[0].rindex("\n\n") :]


def test_the_token_cache_notices_other_demonstrations(tmp_path, homes):
    def inputs():
        cache = token_cache.load("explained_own_answer_1_shot_eval_test", "test", MODULE, str(tmp_path))
        return cache.records[0]["inputs_pretokenized"], cache.directory

    import_rows(tmp_path, "own", homes, rows(2, seed=9))
    first, directory = inputs()
    assert rows(2, seed=9)[0]["question"] in first
    import_rows(tmp_path, "own", homes, rows(2, seed=8), overwrite=True)
    second, same = inputs()
    assert rows(2, seed=8)[0]["question"] in second and directory == same


def test_the_token_cache_notices_another_wording(tmp_path, homes):
    def inputs():
        cache = token_cache.load("explained_homes_answer_1_shot_mine_eval_test", "test", MODULE, str(tmp_path))
        return cache.records[0]["inputs_pretokenized"]

    file = tmp_path / "few_shot_templates" / "mine.toml"
    file.parent.mkdir()
    packaged = few_shot.template_file("training", tmp_path).read_text()
    file.write_text(packaged.replace("Question:", "Puzzle:"))
    assert inputs().startswith("Puzzle: ")
    file.write_text(packaged.replace("Question:", "Riddle:"))
    assert inputs().startswith("Riddle: ")
    file.write_text(packaged.replace("{question}", "{riddle}"))
    with pytest.raises(UserError, match=r"mine.toml has \{riddle\} in 'input'"):
        inputs()


def test_labels_are_those_of_the_import(tmp_path, registries, seqio_unchanged):
    made = [{"question": f"q {i}", "answer": ("yes", "maybe", "-")[i % 3]} for i in range(9)]
    import_rows(tmp_path, "labelled", {"train": made}, labels=["maybe", "yes"])
    task = "explained_labelled_answer_1_shot_eval_validation"
    cache = token_cache.load(task, "validation", MODULE, str(tmp_path), vocabulary_file=COMPACT_FILE)
    assert cache.labels() == [("maybe", "yes")] * len(cache)
    assert cache.records[0]["inputs_pretokenized"].endswith("\n(a) maybe\n(b) yes\nAnswer:")


COMPACT_FILE = COMPACT_VOCABULARY.sentencepiece_model_file


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("explained_homes_answer_2_shot_eval_longer", "registers no task or mixture"),
        ("explained_homes_answer_2_shot_compact", "tasks of ListOps alone have the suffix _compact"),
        ("explained_houses_answer_2_shot", "datasets in .*: homes; import another"),
        ("explained_homes_single_2_shot", "registers no task"),
        ("explained_tiny_medium_2_shot_eval_train", "ListOps has the splits validation, test, longer, larger_numbers"),
        ("explained_homes_answer_shot", "few-shot tasks are explained_<dataset>_<form>_<k>_shot"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(tmp_path, homes, name, words):
    with pytest.raises(UserError, match=words):
        tokenize.get_task_or_mixture(name, MODULE, str(tmp_path))
