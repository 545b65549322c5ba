"""`Summary`: one evaluation, the only reader and writer of `summary.json` and `all_summaries.json`.

The files keep the flat keys of the earlier system (`ttt_ppl_at_1xW`, …); no other module spells one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.results.contexts import CONTEXTS, Context
from tttkit.results.figures import Figures, Ratio
from tttkit.results.values import SCHEMA_VERSION, checked_object, number
from tttkit.storage import files

SUMMARY_NAME = "summary.json"
SELECTION_KEY = "selection_ppl"


def perplexity_key(context: str, multiple: int) -> str:
    """Return the flat key of the perplexity of a context at `multiple` x W."""
    return f"{CONTEXTS[context].key}_ppl_at_{multiple}xW"


def mean_key(context: str) -> str:
    """Return the flat key of the mean of a context's perplexities over chunks."""
    return f"{CONTEXTS[context].key}_ppl_mean"


class Summary:
    """One evaluation: `summary.json`, or an entry of `all_summaries.json`. It is immutable."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """`values` is the content of the file, with flat keys; unknown keys are kept."""
        self._values = dict(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Summary) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    @classmethod
    def new(cls, facts: Mapping[str, Any], figures: Mapping[str, Figures], positions: Mapping[int, int]) -> Summary:
        """Make a summary of `figures` by context, in that order; `positions` are the chunk centers by label.

        `facts` are the keys that say what was evaluated and how, in the order of the file.
        """
        values = {"schema_version": SCHEMA_VERSION, **facts}
        for name, each in figures.items():
            values |= _spread_values(CONTEXTS[name], each)
        for multiple, position in positions.items():
            values |= _label_values(figures, multiple, position)
        full, windowed = (figures[name].spread for name in ("full", "sw"))
        values["improvement_mean"] = _difference(windowed and windowed[0], full and full[0])
        return cls(values)

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read a summary.json. Raises DataError when it is missing, damaged, not an object, or of a newer schema."""
        return cls(checked_object(files.read_json(path), path))

    @classmethod
    def read_all(cls, path: Path) -> list[Summary]:
        """Read an all_summaries.json; empty if there is none. Raises DataError as `read` does."""
        if not path.exists():
            return []
        values = files.read_json(path)
        if not isinstance(values, list):
            raise DataError(f"{path} holds no list of summaries")
        return [cls(checked_object(item, path)) for item in values]

    def write(self, path: Path) -> None:
        """Replace a summary.json. Raises DiskFullError, OSError."""
        files.write_json(path, self._values)

    @staticmethod
    def write_all(path: Path, summaries: Iterable[Summary]) -> None:
        """Replace an all_summaries.json. Raises DiskFullError, OSError."""
        files.write_json(path, [summary.to_dict() for summary in summaries])

    def to_dict(self) -> dict[str, Any]:
        """Return the flat keys, as in the file."""
        return dict(self._values)

    def with_values(self, **values: Any) -> Summary:
        """Return a copy with these flat keys set; new keys come first."""
        return Summary({**{key: None for key in values if key not in self._values}, **self._values, **values})

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key as it is in the file, for facts without a property here."""
        return self._values.get(key, default)

    def value(self, key: str) -> float | None:
        """Return the value of a key if it is a finite number, else None."""
        return number(self._values.get(key))

    @property
    def index(self) -> int | None:
        """Number of the evaluation in its run, from 0."""
        return self._whole("checkpoint_idx")

    @property
    def step(self) -> int | None:
        """Optimizer updates done before the evaluation."""
        return self._whole("step")

    @property
    def tokens(self) -> int | None:
        """Training tokens seen before the evaluation."""
        return self._whole("tokens_seen")

    @property
    def window(self) -> int | None:
        """Window W in tokens."""
        return self._whole("training_window")

    @property
    def max_length(self) -> int | None:
        """Evaluated length T in tokens."""
        return self._whole("eval_max_length")

    @property
    def chunk_size(self) -> int | None:
        """Positions K of a chunk."""
        return self._whole("chunk_size")

    @property
    def num_sequences(self) -> int | None:
        """Number of sequences in each figure."""
        return self._whole("num_sequences")

    @property
    def num_documents(self) -> int:
        """Number of documents in which the sequences begin; 0 if it was not recorded."""
        return self._whole("num_documents") or 0

    @property
    def model(self) -> str | None:
        """Name of the model, as in `--model`."""
        name = self._values.get("model")
        return name if isinstance(name, str) else None

    @property
    def selection_ppl(self) -> float | None:
        """Perplexity at 1 x W over many windows, which decides the best model and early stopping."""
        return self.value(SELECTION_KEY)

    @property
    def mini_batch_size(self) -> int | None:
        """Inner mini-batch C of the model, in tokens."""
        return self._whole("mini_batch_size")

    def labels(self) -> list[int]:
        """Return the labels m at which this evaluation has a `full` perplexity, known or not, ascending."""
        start, end = f"{CONTEXTS['full'].key}_ppl_at_", "xW"
        names = [key.removeprefix(start).removesuffix(end) for key in self._values if key.startswith(start)]
        return sorted(int(name) for name in names if name.isdigit())

    def contexts(self) -> list[str]:
        """Return the contexts for which this evaluation has a figure, in the order of tables."""
        return [
            name
            for name, context in CONTEXTS.items()
            if any(key.startswith(f"{context.key}_ppl_") and value is not None for key, value in self._values.items())
        ]

    def has_context(self, context: str) -> bool:
        """Return whether a context was evaluated, even if none of its figures is known."""
        return f"{CONTEXTS[context].key}_ppl_corpus" in self._values

    def perplexity(self, context: str, multiple: int) -> float | None:
        """Return the perplexity of a context at `multiple` x W, or None if it is unknown or not finite."""
        return self.value(perplexity_key(context, multiple))

    def corpus(self, context: str) -> float | None:
        """Return the perplexity of a context over all positions from W on."""
        return self.value(f"{CONTEXTS[context].key}_ppl_corpus")

    def mean(self, context: str) -> float | None:
        """Return the mean of the chunks' perplexities, the only figure in some files of the earlier system."""
        return self.value(mean_key(context))

    def ratio(self, context: str, multiple: int) -> Ratio:
        """Return the ratio of a windowed context to `full` at `multiple` x W.

        In files of the earlier system it is the quotient of the two perplexities, without an interval. One sequence has
        no interval, although version 0.2.0 wrote one of width zero.
        """
        first, last = f"{CONTEXTS[context].ratio_key}ratio", f"at_{multiple}xW"
        names = ("", "ci_low_", "ci_high_", "document_ci_low_", "document_ci_high_")
        value, *bounds = (self.value(f"{first}_{name}{last}") for name in names)
        if value is None:
            windowed, full = (self.perplexity(name, multiple) for name in (context, "full"))
            value = windowed / full if windowed is not None and full else None
        if self.num_sequences == 1:
            return Ratio(value=value)
        low, high, document_low, document_high = bounds
        return Ratio(value=value, low=low, high=high, document_low=document_low, document_high=document_high)

    def _whole(self, key: str) -> int | None:
        value = self.value(key)
        return None if value is None else int(value)


def _spread_values(context: Context, figures: Figures) -> dict[str, float | None]:
    values = {f"{context.key}_ppl_corpus": figures.corpus}
    if figures.spread is not None:
        values |= {f"{context.key}_ppl_{n}": v for n, v in zip(("mean", "min", "max"), figures.spread, strict=True)}
    return values


def _label_values(figures: Mapping[str, Figures], multiple: int, position: int) -> dict[str, Any]:
    label = f"{multiple}xW"
    values: dict[str, Any] = {f"x_pos_at_{label}": position}
    perplexity = {name: each.perplexities[multiple] for name, each in figures.items()}
    values |= {f"{CONTEXTS[name].key}_ppl_at_{label}": value for name, value in perplexity.items()}
    values[f"improvement_at_{label}"] = _difference(perplexity["sw"], perplexity["full"])
    for name, each in figures.items():
        ratio = each.ratios.get(multiple)
        if ratio is not None:
            first = f"{CONTEXTS[name].ratio_key}ratio"
            values[f"{first}_at_{label}"] = ratio.value
            values[f"{first}_ci_low_at_{label}"] = ratio.low
            values[f"{first}_ci_high_at_{label}"] = ratio.high
            values[f"{first}_document_ci_low_at_{label}"] = ratio.document_low
            values[f"{first}_document_ci_high_at_{label}"] = ratio.document_high
    return values


def _difference(windowed: float | None, full: float | None) -> float | None:
    """Return windowed - full, or None if either is unknown or the difference is not finite."""
    if windowed is None or full is None or not math.isfinite(windowed - full):
        return None
    return windowed - full
