import csv
import random

import pytest

from explainft.listops import ListOpsError, Node, evaluate, explain, format, parse
from explainft.listops.release import Example, read_release

SOURCE = "( ( ( [MEDIAN 6 ) ( ( ( [SUM 7 ) 5 ) ] ) ) ] )"
TREE = parse("[MED 6 [SUM 7 5 ] ]")
MEDIUM = "SUM, add [7, 5], sum is 12, answer is 2\nMED, sorted list, [2, 6], MEDIAN is 4\nFinal answer: 4"
ROWS = f'{SOURCE}\t"{MEDIUM}"\n[SM 3 4 ]\t7\n{SOURCE}\t"{MEDIUM}"\n'
EXAMPLES = [Example(TREE, 4, MEDIUM, 1), Example(Node("SUM", (3, 4)), 7, None, 4), Example(TREE, 4, MEDIUM, 5)]


def write(directory, text, encoding="utf-8"):
    path = directory / "rows.tsv"
    path.write_bytes(text.encode(encoding))
    return path


def shifted(lines):
    return [example._replace(line=example.line + lines) for example in EXAMPLES]


def test_rows(tmp_path):
    assert list(read_release(write(tmp_path, ROWS))) == EXAMPLES
    assert list(read_release(str(write(tmp_path, ROWS.removesuffix("\n"))))) == EXAMPLES


def test_header_is_optional(tmp_path):
    assert list(read_release(write(tmp_path, "Source\tTarget\n" + ROWS))) == shifted(1)
    assert list(read_release(write(tmp_path, "Source\tTarget\n"))) == []
    assert list(read_release(write(tmp_path, ""))) == []


def test_header_in_the_middle_is_invalid(tmp_path):
    with pytest.raises(ListOpsError, match="line 8: expected a target"):
        list(read_release(write(tmp_path, ROWS + "Source\tTarget\n")))


@pytest.mark.parametrize("header", ["", "Source\tTarget\n"])
def test_byte_order_mark_and_crlf(tmp_path, header):
    path = write(tmp_path, (header + ROWS).replace("\n", "\r\n"), "utf-8-sig")
    assert list(read_release(path)) == shifted(bool(header))


def test_empty_lines_are_counted_and_skipped(tmp_path):
    assert list(read_release(write(tmp_path, "\n\n" + ROWS + "\n"))) == shifted(2)


def test_incorrect_answer_is_kept(tmp_path):
    [row, explained] = read_release(write(tmp_path, '[SUM 3 4 ]\t9\n[SUM 3 4 ]\t"SUM, 9\nFinal answer: 8"\n'))
    assert row == Example(Node("SUM", (3, 4)), 9, None, 1)
    assert explained == Example(Node("SUM", (3, 4)), 8, "SUM, 9\nFinal answer: 8", 2)


def test_rows_written_by_the_csv_module(tmp_path):
    rng = random.Random(5)
    trees = [Node("MAX", tuple(rng.randrange(30) for _ in range(rng.randint(1, 9)))) for _ in range(300)]
    path = tmp_path / "rows.tsv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        for number, tree in enumerate(trees):
            style = ("none", "short", "medium", "long")[number % 4]
            writer.writerow([format(tree, "parenthesized"), explain(tree, style)])
    examples = list(read_release(path))
    assert [(example.tree, example.answer) for example in examples] == [(tree, evaluate(tree)) for tree in trees]
    assert examples[1].explanation == explain(trees[1], "short") and examples[0].explanation is None


def test_rows_are_lazy(tmp_path):
    rows = read_release(write(tmp_path, "[MAX 1 ]\t1\n[MAX 2 ]\n"))
    assert next(rows) == Example(Node("MAX", (1,)), 1, None, 1)
    with pytest.raises(ListOpsError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    "row, error",
    [
        ("[MAX 2 ]", "expected 2 columns, an expression and a target, found 1"),
        ("[MAX 2 ]\t2\t2", "expected 2 columns, an expression and a target, found 3"),
        ("[MAX 2 \t2", "at character 7: expected ']' to close the MAX at character 0, found the end of the text"),
        ("[MXX 2 ]\t2", "at character 0: unknown operator 'MXX'; did you mean 'MAX'?"),
        ("[MAX 2 ]\t", "expected a target that is a number or ends with 'Final answer: N', found ''"),
        ("[MAX 2 ]\ttwo", "expected a target that is a number or ends with 'Final answer: N', found 'two'"),
        ('[MAX 2 ]\t"Max, 2\nFinal answer:"',
         "expected a target that is a number or ends with 'Final answer: N', found 'Max, 2\\nFinal answer:'"),
        ('[MAX 2 ]\t"Max, 2\nFinal answer: 2', "a quote is not closed (unexpected end of data)"),
        ('[MAX 2 ]\t"Max, 2\nFinal answer: 2\n' + ROWS, "a quote is not closed ('tab' expected after '\"')"),
        ("[MAX 2 ]\tMax, 2\nFinal answer: 2",
         "expected a target that is a number or ends with 'Final answer: N', found 'Max, 2'"),
    ],
)  # fmt: skip
def test_error_names_file_and_line(tmp_path, row, error):
    for before, line in (("", 1), (ROWS, 8), ("Source\tTarget\n" + ROWS, 9)):
        path = write(tmp_path, before + row)
        with pytest.raises(ListOpsError) as caught:
            list(read_release(path))
        assert str(caught.value) == f"{path}, line {line}: {error}"


def test_byte_that_is_not_utf8(tmp_path):
    path = write(tmp_path, "[MAX 1 ]\t1\n[MAX 2 ]\t2\xe9\n", "latin-1")
    with pytest.raises(ListOpsError, match="line 2: expected UTF-8, found another byte at character 1 of the target"):
        list(read_release(path))
    path = write(tmp_path, "[MAX 1\xe9 ]\t1\n", "latin-1")
    with pytest.raises(ListOpsError, match="line 1: at character 5: expected an integer"):
        list(read_release(path))
