"""`Evaluation`: the NLL of one model on one split in every context, and the result files made from it.

The protocol is in docs/protocol.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import save

from tttkit.config.run import EvaluationConfig
from tttkit.evaluate.bootstrap import PairedBootstrap, paired_bootstrap
from tttkit.evaluate.chunks import ChunkPerplexity, chunk_perplexity
from tttkit.evaluate.sequences import SEQUENCE_CHOICE
from tttkit.results.contexts import CONTEXTS, compared_contexts, labels_within
from tttkit.results.curves import CURVES_NAME, Curves
from tttkit.results.figures import Figures, Ratio
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.results.values import SEQUENCES_NAME
from tttkit.storage import files

BOOTSTRAP_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measured NLL. Arrays are float32 (sequences, positions) in nats, NaN at positions that were not computed."""

    protocol: EvaluationConfig
    window: int
    nll: dict[str, NDArray[np.float32]]
    """NLL by context, in the order in which contexts are written to files."""
    selection_ppl: float
    """exp of the mean NLL of positions W-K+1 … W over many disjoint windows, for best model and early stopping."""
    selection_windows: int
    """Number of those windows."""
    starts: NDArray[np.int64]
    """Position in the split at which each sequence begins, (sequences,)."""
    documents: NDArray[np.int64]
    """Number of the document in which each sequence begins, (sequences,)."""

    def chunks(self, context: str) -> ChunkPerplexity:
        """Return the perplexity of one context per chunk."""
        return chunk_perplexity(
            self.nll[context], self.window, self.protocol.chunk_size, self.protocol.chunk_stride, "mean"
        )

    def intervals(self, context: str) -> PairedBootstrap:
        """Compare another context with `full`, paired by sequence."""
        return self._bootstrap(context, None)

    def document_intervals(self, context: str) -> PairedBootstrap | None:
        """Compare as `intervals` does, resampling whole documents; None if all sequences begin in one document."""
        names, groups = np.unique(self.documents, return_inverse=True)
        return self._bootstrap(context, groups.astype(np.uint32)) if names.size > 1 else None

    def _bootstrap(self, context: str, groups: NDArray[np.uint32] | None) -> PairedBootstrap:
        protocol = self.protocol
        return paired_bootstrap(
            self.nll["full"], self.nll[context], protocol.chunk_size, protocol.chunk_stride, protocol.num_resamples,
            BOOTSTRAP_SEED, groups=groups,
        )  # fmt: skip

    def summary(self) -> Summary:
        """Return the summary without the facts that only the caller knows: step, training loss, fingerprints."""
        protocol, num_sequences = self.protocol, self.nll["full"].shape[0]
        facts = {
            "training_window": self.window,
            "eval_max_length": protocol.max_length,
            "chunk_size": protocol.chunk_size,
            "chunk_stride": protocol.chunk_stride,
            "num_sequences": num_sequences,
            "sequence_choice": SEQUENCE_CHOICE,
            "num_documents": int(np.unique(self.documents).size),
            "aggregate": "mean",
            "sw_mode": protocol.sw_mode,
            "tokens_per_chunk": num_sequences * protocol.chunk_size,
            "selection_ppl": self.selection_ppl,
            "selection_windows": self.selection_windows,
        }
        full = self.chunks("full")
        columns = {m: full.index_at_multiple(m) for m in labels_within(self.window, protocol.max_length)}
        figures = {context: self._figures(context, columns) for context in self.nll}
        positions = {multiple: int(full.centers[column]) for multiple, column in columns.items()}
        return Summary.new(facts, figures, positions)

    def curves(self) -> Curves:
        """Return the curve of every context over all chunks, with intervals of its ratio to `full`."""
        protocol, full = self.protocol, self.chunks("full")
        facts = {
            "training_window": self.window,
            "eval_max_length": protocol.max_length,
            "chunk_size": protocol.chunk_size,
            "chunk_stride": protocol.chunk_stride,
            "num_sequences": self.nll["full"].shape[0],
            "sw_mode": protocol.sw_mode,
            "num_resamples": protocol.num_resamples,
            "bootstrap_seed": BOOTSTRAP_SEED,
        }
        mean_nll = {context: _known_list(self.chunks(context).mean_nll) for context in self.nll}
        ratios = {context: _ratio_curves(self.intervals(context)) for context in self._compared()}
        return Curves.new(facts, full.centers.tolist(), full.ends.tolist(), mean_nll, ratios)

    def sequence_nll(self) -> dict[str, NDArray[Any]]:
        """Return the mean NLL per chunk and sequence by context, float32 (sequences, chunks), for paired intervals."""
        size, stride = self.protocol.chunk_size, self.protocol.chunk_stride
        arrays: dict[str, NDArray[Any]] = {
            context: np.ascontiguousarray(
                sliding_window_view(nll, size, axis=1)[:, ::stride].mean(axis=2, dtype=np.float64).astype(np.float32)
            )
            for context, nll in self.nll.items()
        }
        places = {"starts": self.starts, "documents": self.documents}
        return {**arrays, "ends": self.chunks("full").ends, **places}

    def _compared(self) -> list[str]:
        return [context for context in self.nll if context in compared_contexts()]

    def _figures(self, context: str, columns: Mapping[int, int]) -> Figures:
        """Return the figures of one context; `columns` are the indices of the chunks by label."""
        perplexities = self.chunks(context).perplexity
        beyond = self.nll[context][:, self.window :]
        spread = (perplexities.mean(), perplexities.min(), perplexities.max())
        return Figures(
            perplexities={multiple: _known(perplexities[column]) for multiple, column in columns.items()},
            corpus=_known(perplexity(beyond)) if beyond.size else None,
            spread=(_known(spread[0]), _known(spread[1]), _known(spread[2])) if CONTEXTS[context].has_spread else None,
            ratios=self._ratios(context, columns) if context in compared_contexts() else {},
        )

    def _ratios(self, context: str, columns: Mapping[int, int]) -> dict[int, Ratio]:
        by_sequence, by_document = self.intervals(context), self.document_intervals(context)
        ratios = {}
        for multiple, column in columns.items():
            low, high = _bounds(by_sequence, column)
            document_low, document_high = (None, None) if by_document is None else _bounds(by_document, column)
            ratios[multiple] = Ratio(
                value=_known(by_sequence.ratio[column]), low=low, high=high, document_low=document_low,
                document_high=document_high,
            )  # fmt: skip
        return ratios


def write_evaluation(
    directory: Path,
    evaluation: Evaluation,
    facts: Mapping[str, Any],
    *,
    before_summary: Callable[[Curves], None] | None = None,
) -> Summary:
    """Write chunk_nll.safetensors, chunk_eval.json and summary.json, with the keys of `facts` in front.

    Returns the summary, which is written last because it makes the results known; `before_summary` is called just
    before that. Raises DiskFullError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    summary = evaluation.summary().with_values(**facts)
    files.write_bytes(directory / SEQUENCES_NAME, save(evaluation.sequence_nll()))
    trained = facts.get("trained_length")
    curves = evaluation.curves() if trained is None else evaluation.curves().with_values(trained_length=trained)
    curves.write(directory / CURVES_NAME)
    if before_summary is not None:
        before_summary(curves)
    summary.write(directory / SUMMARY_NAME)
    return summary


def perplexity(nll: NDArray[np.float32]) -> float:
    """Return exp of the mean NLL in nats; infinite if the result overflows float64."""
    with np.errstate(over="ignore"):
        return float(np.exp(nll.mean(dtype=np.float64)))


def _ratio_curves(intervals: PairedBootstrap) -> dict[str, list[float | None]]:
    band_low, band_high = intervals.ratio_band
    return {
        "ratio_band_low": _known_list(band_low),
        "ratio_band_high": _known_list(band_high),
        "ratio": _known_list(intervals.ratio),
        "ratio_low": _known_list(intervals.ratio_low),
        "ratio_high": _known_list(intervals.ratio_high),
    }


def _bounds(intervals: PairedBootstrap, column: int) -> tuple[float | None, float | None]:
    return _known(intervals.ratio_low[column]), _known(intervals.ratio_high[column])


def _known(value: float | np.floating[Any]) -> float | None:
    """Return the value, or None for NaN: JSON has no NaN, so a value that was not computed is null."""
    return None if math.isnan(value) else float(value)


def _known_list(values: NDArray[np.float64]) -> list[float | None]:
    return [_known(value) for value in values]
