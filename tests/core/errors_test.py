"""Lines about unknown names."""

from explainft.core.errors import nearest


def test_a_near_name_is_suggested():
    assert nearest("mediun", ["short", "medium", "long"]) == "; did you mean 'medium'?"


def test_few_known_names_are_all_listed():
    assert nearest("xyz", ["long", "medium"]) == "; known: long, medium"
    assert nearest("xyz", []) == ""


def test_of_many_known_names_three_are_shown():
    line = nearest("zzz", [f"explained_listops{i}_medium" for i in range(500)])
    assert line.startswith("; nearest of 500 known: ") and line.count("explained_") == 3
