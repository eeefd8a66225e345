"""The pure core stays pure: what an import loads, seen from a fresh process."""

import subprocess
import sys


def modules_after(statement: str) -> set[str]:
    """Top-level packages that the statement loads on top of what the interpreter had loaded by itself."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; "
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_listops_needs_the_standard_library_alone():
    loaded = modules_after("import explainft.listops, explainft.listops.release")
    assert "explainft" in loaded
    assert loaded - {"explainft"} <= set(sys.stdlib_module_names)


def test_the_package_loads_neither_jax_nor_tensorflow():
    loaded = modules_after("import explainft")
    assert "explainft" in loaded
    assert not loaded & {"jax", "jaxlib", "flax", "tensorflow", "seqio"}
