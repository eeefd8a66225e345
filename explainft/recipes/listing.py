"""The recipes that ship with the package, as `explainft recipes` prints them."""

import dataclasses

from explainft.recipes.recipe import PACKAGED

SIZES = ("tiny", "small", "base", "large", "3b")
STYLES = ("none", "short", "medium", "long")


@dataclasses.dataclass(frozen=True)
class PackagedRecipe:
    """`name`: what --gin_file takes; `style`: of the explanations, or None of a recipe that evaluates or infers."""

    name: str
    size: str
    style: str | None
    comment: str


def list_recipes() -> list[PackagedRecipe]:
    """Returns the packaged recipes, the smallest models first."""
    found = []
    for file in (PACKAGED / "gin").glob("*.gin"):
        kind, _, size = file.stem.rpartition("_")
        comment = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        found.append(PackagedRecipe(f"gin/{file.name}", size, kind if kind in STYLES else None, comment))
    return sorted(found, key=lambda recipe: (SIZES.index(recipe.size), recipe.name))


def format_recipes() -> str:
    """Returns a line for each recipe: name, size, style and first comment line."""
    rows = [("recipe", "size", "style", "command and measured result")]
    rows += [(recipe.name, recipe.size, recipe.style or "-", recipe.comment) for recipe in list_recipes()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows)
