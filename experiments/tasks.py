"""The tasks of the experiments that `import tasks` does not register."""

import tasks

for _percent in (2, 10, 50):
    tasks.register_partly_explained("tiny", "medium", _percent)
for _examples in (1000, 3000, 10000, 30000):
    tasks.register(f"tiny-{_examples}")
