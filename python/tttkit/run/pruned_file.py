"""`pruned.json`: why a study trains a run no further. The driver of the study writes it, not the run. No torch."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

from tttkit.errors import DataError
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruned:
    """The decision to train a run no further, and the figures that it rests on."""

    step: int
    """Step of the evaluation at which the run was judged."""
    key: str
    """Key of the objective in summary.json."""
    objective: float
    """The objective at that evaluation."""
    best: float
    """The best objective of the run up to that evaluation, which was compared with the median."""
    median: float
    """Median of the objectives of other runs at the same step."""
    others: int
    """Number of other runs that the median is of."""

    @property
    def reason(self) -> str:
        """The decision in words."""
        return (
            f"pruned at step {self.step} with {self.key} {self.objective:,.2f}: its best, {self.best:,.2f}, is worse "
            f"than the median {self.median:,.2f} of {self.others} other runs at that step"
        )


def write_pruned(run: RunDirectory, pruned: Pruned) -> None:
    """Record the decision. Raises DiskFullError, OSError."""
    files.write_json(run.pruned, {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(pruned)})


def read_pruned(run: RunDirectory) -> Pruned | None:
    """Return the decision; None if there is none, or if its file is damaged."""
    if not run.pruned.exists():
        return None
    with suppress(DataError, TypeError, KeyError):
        values = files.read_json(run.pruned)
        return Pruned(**{field.name: values[field.name] for field in dataclasses.fields(Pruned)})
    return None
