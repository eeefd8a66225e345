"""The train step's imports."""

import subprocess
import sys

FORBIDDEN = ("tensorflow", "orbax", "seqio", "explainft.evaluation", "explainft.checkpoints")


def test_train_step_imports_neither_evaluation_nor_checkpoints_nor_tensorflow():
    code = "import sys, explainft.training.train_step; print(*sys.modules, sep='\\n')"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "explainft.training.train_step" in modules
    assert [name for name in modules if name.startswith(FORBIDDEN)] == []
