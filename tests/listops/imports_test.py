"""What the package listops loads."""

import subprocess
import sys

PROGRAM = """
import sys
before = set(sys.modules)
import explainft.listops, explainft.listops.configs, explainft.listops.release, explainft.listops.render
print(*sorted(set(sys.modules) - before))
"""


def test_listops_loads_only_the_standard_library_and_errors():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    names = [name for name in run.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names]
    allowed = {"explainft", "explainft.core", "explainft.core.errors"}
    assert {name for name in names if not name.startswith("explainft.listops")} == allowed
