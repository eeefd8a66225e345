"""Reading JSON lines."""

import pytest

from explainft.core.errors import UserError
from explainft.core.jsonl import read_jsonl


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b'\n{"step": ', b"\n" + b"[" * 100_000])
def test_rows_before_an_incomplete_line(tmp_path, mark, end):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(mark + '{"step": 1, "text": "\u2028"}\r\n{"step": 2}'.encode() + end)
    assert read_jsonl(file, {"step": int}) == [{"step": 1, "text": "\u2028"}, {"step": 2}]


@pytest.mark.parametrize("line", ["", "[]", "7", "{", '{"step": "1"}', '{"other": 1}', "[" * 100_000])
def test_corrupt_line_is_named(tmp_path, line):
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match='rows.jsonl line 2 is corrupt; expected a JSON object with "step"; correct'):
        read_jsonl(file, {"step": int})


def test_missing_file_has_no_rows(tmp_path):
    assert read_jsonl(tmp_path / "rows.jsonl", {"step": int}) == []


def test_a_line_of_any_fields_is_asked_for_as_an_object(tmp_path):
    (tmp_path / "rows.jsonl").write_text("5\n")
    with pytest.raises(UserError, match="line 1 is corrupt; expected a JSON object; correct or delete"):
        read_jsonl(tmp_path / "rows.jsonl", {})
