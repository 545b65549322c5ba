"""The SOURCE `task:NAME[:LENGTH[:COUNT]]`: examples of a synthetic task, a document each, made from a fixed seed.

An example has LENGTH tokens with its end-of-text token. If LENGTH is the training window, a window holds one example.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from tttkit.data.reader import Reader, Reading
from tttkit.data.source import Source
from tttkit.data.tasks import TASKS
from tttkit.data.tasks.examples import SHORTEST
from tttkit.errors import UsageError

_LENGTH, _COUNT = 64, 100_000
_BLOCK = 1000
"""Examples that are made at once."""
_SEED = 0x7A5C


@dataclasses.dataclass(frozen=True)
class TaskSource(Source):
    """Examples of a task."""

    name: str
    length: int
    count: int

    @classmethod
    def parse(cls, text: str) -> TaskSource:
        """Parse task:NAME[:LENGTH[:COUNT]]. Raises UsageError for an unknown task or a number that is too small."""
        name, *numbers = text.removeprefix("task:").split(":")
        if name not in TASKS or len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise UsageError(f"`{text}` names no task", hint=f"task:NAME[:LENGTH[:COUNT]]; NAME is {', '.join(TASKS)}")
        length, count = (*map(int, numbers), *(_LENGTH, _COUNT)[len(numbers) :])
        if length < SHORTEST or count < 1:
            raise UsageError(f"`{text}`: LENGTH must be at least {SHORTEST} and COUNT at least 1")
        return cls(text, name, length, count)

    def check(self, reader: Reader) -> None:
        """Count the examples as one text; see `Source`."""
        reader.account.read("task")

    def documents(self, reader: Reader, split: str) -> Iterator[str]:  # noqa: ARG002
        """Return the examples; see `Source`."""
        for start in range(0, self.count, _BLOCK):
            random = np.random.default_rng((_SEED, start))
            examples = TASKS[self.name](min(_BLOCK, self.count - start), self.length - 1, random)
            yield from (" ".join(map(str, row)) for row in examples.words.tolist())

    def sign(self, update: Callable[[bytes], object], rules: Reading) -> int | None:
        """Pass on the SOURCE, which says everything about the examples; see `Source`."""
        super().sign(update, rules)
        return None
