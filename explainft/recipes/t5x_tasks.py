"""What gin/t5x imports: `import tasks` means this project's tasks, and the model gets the vocabulary of its task.

`python .../t5x/train.py` puts T5X's own directory first on the module path, which contains another tasks.py.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path[:] = [directory for directory in sys.path if not Path(directory, "tasks.py").is_file()]


def task_vocabulary(mixture_or_task_name: str, module: str) -> Any:
    """Returns the SeqIO vocabulary of the targets of a task or mixture that `module` registers."""
    import seqio

    importlib.import_module(module)
    return seqio.get_mixture_or_task(mixture_or_task_name).output_features["targets"].vocabulary
