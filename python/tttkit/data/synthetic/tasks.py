"""The synthetic tasks by name, and the sizes in which models are trained and measured on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tttkit.data.synthetic.copying import copying
from tttkit.data.synthetic.examples import Examples, Task
from tttkit.data.synthetic.induction import induction
from tttkit.data.synthetic.mqar import mqar, smallest_mqar
from tttkit.data.synthetic.selective_copying import selective_copying, smallest_selective
from tttkit.errors import UsageError


class TaskEntry(NamedTuple):
    """A task, and the numbers of items that its examples ask for."""

    make: Task
    sizes: tuple[int, ...]
    """In which models are measured."""
    trained: tuple[int, ...]
    """In which models are trained. Fewer than the most that are measured show whether a model can keep more than it was
    trained to keep; single pairs let it learn to copy a value before it learns which one."""
    smallest: Callable[[int], int]
    """Returns the fewest tokens of a text with that many items."""
    has_sizes: bool = False
    """Whether the number of items can be chosen."""


TASKS = {
    "mqar": TaskEntry(mqar, (4, 8, 16, 32, 64), (1, 2, 4, 8), smallest_mqar, has_sizes=True),
    "copy": TaskEntry(copying, (0,), (0,), lambda _: 4),
    "selective-copy": TaskEntry(selective_copying, (16,), (16,), smallest_selective, has_sizes=True),
    "induction": TaskEntry(induction, (1,), (1,), lambda _: 6),
}


def task_entry(name: str) -> TaskEntry:
    """Return a task. Raises UsageError for an unknown name."""
    if name not in TASKS:
        raise UsageError(f"unknown synthetic task `{name}`", hint=f"known: {', '.join(TASKS)}")
    return TASKS[name]


def make_examples(name: str, num_examples: int, length: int, size: int, seed: int) -> Examples:
    """Return examples that follow from the arguments alone. Raises UsageError, ValueError."""
    random = np.random.default_rng([seed, length, size, num_examples, *name.encode()])
    return task_entry(name).make(random, num_examples, length, size)


def trained_sizes(name: str, window: int) -> list[int]:
    """Return the sizes of training examples of `window` tokens. Raises UsageError if none fits."""
    entry = task_entry(name)
    sizes = [size for size in entry.trained if entry.smallest(size) <= window]
    if not sizes:
        raise UsageError(
            f"task:{name} needs a window of at least {entry.smallest(entry.trained[0])} tokens, got {window}",
            hint="raise train.window",
        )
    return sizes
