"""One model, one split, one protocol: NLL in all contexts, perplexity at the labels, intervals (evaluation.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import save

from tttkit.config.run import EvaluationConfig
from tttkit.data.split import Split
from tttkit.errors import DataError
from tttkit.evaluate.blocks import NllBlocks
from tttkit.evaluate.bootstrap import PairedBootstrap, paired_bootstrap
from tttkit.evaluate.chunks import ChunkPerplexity, chunk_perplexity
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.plan import costs, labelled_positions, labels, positions_only
from tttkit.evaluate.sequences import SEQUENCE_CHOICE, check_sizes, check_vocabulary, cut_sequences, spread
from tttkit.models import LanguageModel
from tttkit.storage import files

SCHEMA_VERSION = 1
CONTEXTS: tuple[str, ...] = ("full", "reset", "sw_aligned", "sw")
PREFIXES = {"full": "ttt", "sw": "sw", "sw_aligned": "sw_aligned", "reset": "reset"}
"""What a context's keys in summary.json begin with; `full` keeps the earlier system's name."""
BOOTSTRAP_SEED = 0
Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured. NLL arrays are float32 (sequences, positions), NaN where a mode does not compute."""

    protocol: EvaluationConfig
    window: int
    nll: dict[str, NDArray[np.float32]]
    selection_ppl: float
    """exp of the mean NLL of positions W-K+1 … W over many disjoint windows: what best model and patience go by."""
    selection_windows: int
    """How many windows that were."""
    starts: NDArray[np.int64]
    """Where each sequence begins in the split, (sequences,)."""
    documents: NDArray[np.int64]
    """Number of the document that each sequence begins in, (sequences,)."""

    def chunks(self, context: str) -> ChunkPerplexity:
        """Perplexity per chunk of one context."""
        return chunk_perplexity(
            self.nll[context], self.window, self.protocol.chunk_size, self.protocol.chunk_stride, "mean"
        )

    def intervals(self, context: str) -> PairedBootstrap:
        """Paired comparison of a windowed context with `full`."""
        return self._bootstrap(context, None)

    def document_intervals(self, context: str) -> PairedBootstrap | None:
        """As `intervals`, but whole documents are resampled; None where all sequences begin in one."""
        names, groups = np.unique(self.documents, return_inverse=True)
        return self._bootstrap(context, groups.astype(np.uint32)) if names.size > 1 else None

    def _bootstrap(self, context: str, groups: NDArray[np.uint32] | None) -> PairedBootstrap:
        protocol = self.protocol
        return paired_bootstrap(
            self.nll["full"], self.nll[context], protocol.chunk_size, protocol.chunk_stride, protocol.num_resamples,
            BOOTSTRAP_SEED, groups=groups,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """summary.json, as far as the evaluation knows it: the earlier system's keys and ours. Unknown is None."""
        protocol = self.protocol
        num_sequences = self.nll["full"].shape[0]
        summary: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
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
        chunks = {context: self.chunks(context) for context in self.nll}
        for context, found in chunks.items():
            summary |= self._spread(context, found)
        summary |= self._labels(chunks)
        summary["improvement_mean"] = _difference(summary["sw_ppl_mean"], summary["ttt_ppl_mean"])
        return summary

    def curves(self) -> dict[str, Any]:
        """chunk_eval.json: the whole curve of every context, with intervals of its ratio to `full`."""
        first = self.chunks("full")
        curves: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "training_window": self.window,
            "eval_max_length": self.protocol.max_length,
            "chunk_size": self.protocol.chunk_size,
            "chunk_stride": self.protocol.chunk_stride,
            "num_sequences": self.nll["full"].shape[0],
            "sw_mode": self.protocol.sw_mode,
            "num_resamples": self.protocol.num_resamples,
            "bootstrap_seed": BOOTSTRAP_SEED,
            "centers": first.centers.tolist(),
            "ends": first.ends.tolist(),
        }
        for context in self.nll:
            curves[f"{context}_mean_nll"] = _known_list(self.chunks(context).mean_nll)
            if context != "full":
                found = self.intervals(context)
                for end, values in zip(("low", "high"), found.ratio_band, strict=True):
                    curves[f"{context}_ratio_band_{end}"] = _known_list(values)
                curves[f"{context}_ratio"] = _known_list(found.ratio)
                curves[f"{context}_ratio_low"] = _known_list(found.ratio_low)
                curves[f"{context}_ratio_high"] = _known_list(found.ratio_high)
        return curves

    def sequence_nll(self) -> dict[str, NDArray[Any]]:
        """Mean NLL of each chunk of each sequence by context, float32 (sequences, chunks): what intervals rest on."""
        size, stride = self.protocol.chunk_size, self.protocol.chunk_stride
        arrays: dict[str, NDArray[Any]] = {
            context: np.ascontiguousarray(
                sliding_window_view(nll, size, axis=1)[:, ::stride].mean(axis=2, dtype=np.float64).astype(np.float32)
            )
            for context, nll in self.nll.items()
        }
        places = {"starts": self.starts, "documents": self.documents}
        return {**arrays, "ends": self.chunks("full").ends, **places}

    def _spread(self, context: str, chunks: ChunkPerplexity) -> dict[str, float | None]:
        """Statistics over the chunks' perplexities, and the corpus figure of all positions from W on."""
        prefix, perplexity = PREFIXES[context], chunks.perplexity
        beyond = self.nll[context][:, self.window :]
        corpus = _perplexity(beyond) if beyond.size else math.nan
        spread = {f"{prefix}_ppl_corpus": _known(corpus)}
        if context in ("full", "sw"):
            for name, value in (("mean", perplexity.mean()), ("min", perplexity.min()), ("max", perplexity.max())):
                spread[f"{prefix}_ppl_{name}"] = _known(value)
        return spread

    def _labels(self, chunks: dict[str, ChunkPerplexity]) -> dict[str, Any]:
        windowed = [context for context in self.nll if context != "full"]
        intervals = {context: (self.intervals(context), self.document_intervals(context)) for context in windowed}
        values: dict[str, Any] = {}
        for multiple in labels(self.window, self.protocol.max_length):
            label, index = f"{multiple}xW", chunks["full"].index_at_multiple(multiple)
            values[f"x_pos_at_{label}"] = int(chunks["full"].centers[index])
            perplexity = {context: float(found.perplexity[index]) for context, found in chunks.items()}
            for context, value in perplexity.items():
                values[f"{PREFIXES[context]}_ppl_at_{label}"] = _known(value)
            values[f"improvement_at_{label}"] = _difference(perplexity["sw"], perplexity["full"])
            for context, (found, by_document) in intervals.items():
                prefix = "" if context == "sw" else f"{context}_"
                values[f"{prefix}ratio_at_{label}"] = _known(found.ratio[index])
                for which, each in (("ci", found), ("document_ci", by_document)):
                    for end in ("low", "high"):
                        bound = None if each is None else _known(getattr(each, f"ratio_{end}")[index])
                        values[f"{prefix}ratio_{which}_{end}_at_{label}"] = bound
        return values


def evaluate_model(
    model: LanguageModel,
    split: Split,
    protocol: EvaluationConfig,
    *,
    window: int,
    progress: Callable[[float], None] | None = None,
    blocks: NllBlocks | None = None,
) -> Evaluation:
    """Measure all contexts on `num_sequences` disjoint sequences of T+1 tokens spread evenly over a split, in order.

    `progress` is called with the share done, between batches, and may raise to stop; with `blocks` what is done is
    kept, so that the same call goes on from there. Raises UsageError when more sequences are asked for than the split
    holds or when window, chunks and inner mini-batch do not fit together,
    DataError when the split holds no sequence or ids that the model does not know.
    """
    check_vocabulary(model, split)
    check_sizes(protocol, window, model.config.mini_batch_size)
    sequences, starts = cut_sequences(split, protocol.num_sequences, protocol.max_length)
    shares = costs(protocol, window, model.config.mini_batch_size)
    total, done = sum(shares.values()), 0.0

    def tick(share: float) -> None:
        if progress is not None:
            progress((done + share * shares[stage]) / total)

    def measure(tokens: Integers, context: str, positions: Integers | None = None) -> NDArray[np.float32]:
        compute = partial(token_nll, model, context=context, window=window, positions=positions)
        return compute(tokens, progress=tick) if blocks is None else blocks.fill(stage, tokens, compute, tick)

    stage = "selection"
    windows = _selection_windows(split, protocol, window)
    selection_ppl = _perplexity(measure(windows, "full")[:, window - protocol.chunk_size :])
    done = shares[stage]
    nll: dict[str, NDArray[np.float32]] = {}
    for context in CONTEXTS:
        stage = context
        positions = labelled_positions(protocol, window) if positions_only(protocol, context) else None
        if context == "sw" and model.config.mini_batch_size == 1:
            nll[context] = _known_at(nll["sw_aligned"], positions)  # attention: the same windows
        else:
            nll[context] = measure(sequences, context, positions)
        done += shares[stage]
    documents = np.searchsorted(split.document_ends, starts, side="right").astype(np.int64)
    return Evaluation(
        protocol=protocol, window=window, nll=nll, selection_ppl=selection_ppl, selection_windows=len(windows),
        starts=starts, documents=documents,
    )  # fmt: skip


def write_checkpoint(directory: Path, evaluation: Evaluation, extra: dict[str, Any]) -> dict[str, Any]:
    """Write summary.json (with the keys of `extra`), chunk_eval.json and chunk_nll.safetensors; returns the summary.

    Raises DiskFullError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    summary = {**extra, **evaluation.summary()}
    files.write_bytes(directory / "chunk_nll.safetensors", save(evaluation.sequence_nll()))
    files.write_json(directory / "chunk_eval.json", evaluation.curves())
    files.write_json(directory / "summary.json", summary)
    return summary


def _selection_windows(split: Split, protocol: EvaluationConfig, window: int) -> NDArray[np.int64]:
    """Windows that selection_ppl rests on, spread over the split, (windows, W + 1). Raises DataError."""
    num_windows = (split.num_tokens - 1) // window
    if num_windows == 0:
        raise DataError(f"the split has {split.num_tokens} tokens, one window of W={window} needs {window + 1}")
    starts = spread(num_windows, min(num_windows, protocol.selection_windows)) * window
    return np.stack([split.tokens(start, start + window + 1) for start in starts.tolist()]).astype(np.int64)


def _known_at(nll: NDArray[np.float32], positions: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """The same NLL, NaN but at `positions`; all of it for None."""
    if positions is None:
        return nll
    known = np.full_like(nll, np.nan)
    known[:, positions] = nll[:, positions]
    return known


def _perplexity(nll: NDArray[np.float32]) -> float:
    """exp of the mean; infinite for a model so wrong that it leaves float64."""
    with np.errstate(over="ignore"):
        return float(np.exp(nll.mean(dtype=np.float64)))


def _difference(windowed: float | None, full: float | None) -> float | None:
    """windowed - full, where both are known and finite."""
    if windowed is None or full is None or not math.isfinite(windowed - full):
        return None
    return windowed - full


def _known(value: float | np.floating[Any]) -> float | None:
    """JSON has no NaN: what was not computed is null."""
    return None if math.isnan(value) else float(value)


def _known_list(values: NDArray[np.float64]) -> list[float | None]:
    return [_known(value) for value in values]
