"""Diagnose one model on one split: all parts that it allows, kept part by part, so that a killed run goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.data.split import Split
from tttkit.diagnose import effective_memory
from tttkit.diagnose.key_tokens import choose_key_tokens
from tttkit.diagnose.plan import Plan, Sizes, plan, reference_rows
from tttkit.diagnose.states import Reference, along, layers_with_memory, reference_of
from tttkit.diagnose.summaries import means, memory_values, perplexity_bands
from tttkit.errors import UsageError
from tttkit.evaluate.blocks import NllBlocks, evaluation_key
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.request import EvaluationJob
from tttkit.evaluate.sequences import check_positions, check_vocabulary, cut_sequences, spread
from tttkit.models import LanguageModel
from tttkit.results.contexts import labels_within
from tttkit.results.diagnose import Diagnosis

SCHEMA = 2
"""Increase it when equal weights, data and settings would give different files."""
USUAL_SEQUENCES = 16
_MOST_WINDOWS = 256
_FEWEST_WINDOWS = 20
Integers = NDArray[np.int64]
Progress = Callable[[float], None]


class Diagnoser:
    """A diagnosis of one model: what it will measure, what that costs, and the measurement itself."""

    def __init__(
        self,
        job: EvaluationJob,
        *,
        training: Split | None,
        evaluator: EvaluationJob | None,
        max_length: int | None = None,
        num_sequences: int | None = None,
    ) -> None:
        """`training` is the split whose windows were trained on; None takes those of the evaluated split.

        Raises UsageError and DataError if model, split and sizes do not fit together.
        """
        check_vocabulary(job.model, job.split)
        self.job, self.evaluator = job, evaluator
        self._reference_split = training or job.split
        self.longest = longest_window(job.model, bos_in_front(job.model, job.bos))
        check_positions(job.model, self.longest, job.window)
        length = max_length or 20 * job.window
        if length < job.window:
            raise UsageError(f"--max-length must be at least W = {job.window}, got {length}")
        count = num_sequences or min(USUAL_SEQUENCES, max(1, job.split.num_tokens // (length + 1)))
        self.tokens, self.starts = cut_sequences(job.split, count, length)
        self.left_out = self._reasons(length)
        size = job.model.mini_batch_size
        read = min(length, self.longest or length)
        self.sizes = Sizes(
            window=job.window, max_length=length, num_sequences=count,
            stride=max(size, job.window // 4 // size * size, 1),
            positions=[m * job.window for m in labels_within(job.window, length) if m * job.window <= read],
            num_windows=0 if "distance" in self.left_out else self._num_windows(),
        )  # fmt: skip
        settings = dataclasses.asdict(self.sizes)
        weights = None if evaluator is None else evaluator.facts["weights_sha256"]
        self.key = evaluation_key(
            schema=SCHEMA, job=job.key, settings=settings, evaluator=weights,
            reference=self._reference_split.fingerprint, reference_split=self._reference_name(),
        )  # fmt: skip

    def plan(self) -> Plan:
        """Return what the diagnosis costs, from short measurements of speed."""
        evaluator = None if self.evaluator is None or "key_tokens" in self.left_out else self.evaluator.model
        return plan(self.job.model, evaluator, self.sizes)

    def run(self, planned: Plan, blocks: NllBlocks, progress: Progress | None = None) -> Diagnosis:
        """Measure everything. Finished parts are read from `blocks`; `progress` gets the share done, may raise."""
        nll = self._nll(blocks, planned.share("nll", progress))
        state = self._state(planned, blocks, progress)
        memory = self._memory(blocks, planned.share("memory", progress))
        keys = self._key_tokens(blocks, planned.share("key_tokens", progress))
        kept = ("model", "path", "split", "data_fingerprint", "weights_sha256", "dtype", "bos_id")
        facts = {name: self.job.facts.get(name) for name in kept}
        evaluator = None if self.evaluator is None else {
            name: self.evaluator.facts[name] for name in ("path", "weights_sha256")
        }  # fmt: skip
        values = {
            **facts, "diagnose_key": self.key, **dataclasses.asdict(self.sizes), "starts": self.starts.tolist(),
            "evaluator": evaluator, "reference_split": self._reference_name(),
            "tolerance": effective_memory.TOLERANCE, "left_out": self.left_out, "state": state, "memory": memory,
            "perplexity": perplexity_bands(nll, keys, self.sizes.window),
        }  # fmt: skip
        return Diagnosis(values)

    def _reasons(self, length: int) -> dict[str, str]:
        """Return why parts are left out for texts of `length` tokens."""
        model, reasons = self.job.model, {}
        if not isinstance(model, LanguageModel):
            reasons["state"] = f"only the code of the {model.name} model knows the layout of its state"
        elif not layers_with_memory(model):
            reasons["state"] = f"the {model.name} model has no recurrent state: a window of keys and values is none"
        elif model.mini_batch_size > self.job.window:
            reasons["state"] = "the window is shorter than an inner mini-batch"
        if "state" in reasons:
            reasons["distance"] = reasons["state"]
        elif self._num_windows() < _FEWEST_WINDOWS:
            reasons["distance"] = f"fewer than {_FEWEST_WINDOWS} windows of W tokens to compare with"
        if self.evaluator is None:
            reasons["key_tokens"] = "no evaluator with full attention was named (--evaluator MODEL)"
        else:
            reads = longest_window(self.evaluator.model, bos_in_front(self.evaluator.model, self.evaluator.bos))
            if reads is not None and reads < length:
                reasons["key_tokens"] = f"the evaluator has {reads:,} positions, but texts have {length:,} tokens"
        if self.longest is not None:
            reasons["beyond"] = f"the model has {self.longest:,} positions, so everything ends there"
        return reasons

    def _num_windows(self) -> int:
        return min(_MOST_WINDOWS, self._reference_split.num_tokens // self.job.window)

    def _reference_name(self) -> str:
        return "the evaluated split" if self._reference_split is self.job.split else "train"

    def _nll(self, blocks: NllBlocks, progress: Progress) -> NDArray[np.float32]:
        """Return the NLL with the full context, float32 (N, T), NaN beyond the positions of the model."""
        job, length = self.job, self.sizes.max_length
        read = min(length, self.longest or length)

        def compute() -> dict[str, NDArray[Any]]:
            nll = np.full((self.sizes.num_sequences, length), np.nan, dtype=np.float32)
            segment = fitting_segment(job.model, read)
            nll[:, :read] = token_nll(
                job.model, self.tokens[:, : read + 1], segment=segment, bos=job.bos, progress=progress
            )
            return {"nll": nll}

        return blocks.arrays("nll", compute)["nll"]

    def _state(self, planned: Plan, blocks: NllBlocks, progress: Progress | None) -> dict[str, Any] | None:
        """Return norm, distance and inner loss by layer and position, means over sequences; None without a state."""
        model = self.job.model
        if "state" in self.left_out or not isinstance(model, LanguageModel):
            return None
        reference = self._reference(model, blocks, planned.share("reference", progress))
        tick, count = planned.share("state", progress), self.sizes.num_sequences
        rows = []
        for index, text in enumerate(self.tokens[:, :-1]):

            def step(share: float, done: int = index) -> None:
                tick((done + share) / count)

            def compute(text: Integers = text, step: Progress = step) -> dict[str, NDArray[Any]]:
                return along(model, text, self.sizes.stride, reference, step)

            rows.append(blocks.arrays(f"state-{index:06d}", compute))
            step(1.0)
        positions = np.arange(1, len(rows[0]["norm"]) + 1) * self.sizes.stride
        # (N, P, layers) each
        measured = {name: np.stack([row[name] for row in rows]).astype(np.float64) for name in rows[0]}
        if "before" not in measured:
            self.left_out["inner_loss"] = f"no layer of the {model.name} model has an inner loss"
        values = {name: array.mean(axis=0).T.tolist() for name, array in measured.items()}
        return {
            "positions": positions.tolist(), "layers": layers_with_memory(model), **values,
            "over_layers": {name: means(array.mean(axis=2)) for name, array in measured.items()},
        }  # fmt: skip

    def _reference(self, model: LanguageModel, blocks: NllBlocks, progress: Progress) -> Reference | None:
        if not self.sizes.num_windows:
            return None
        split, window, count = self._reference_split, self.sizes.window, self.sizes.num_windows
        starts = spread(split.num_tokens // window, count) * window

        def compute() -> dict[str, NDArray[Any]]:
            windows = np.stack([split.tokens(start, start + window) for start in starts.tolist()]).astype(np.int64)
            rows = reference_rows(model, self.sizes)
            return reference_of(model, windows, self.sizes.stride, rows, progress).to_arrays()

        return Reference.from_arrays(blocks.arrays("reference", compute), model.device)

    def _memory(self, blocks: NllBlocks, progress: Progress) -> list[dict[str, Any]]:
        """Return the effective memory at each label, and the total variation by the number of last tokens."""
        model, size, window = self.job.model, self.job.model.mini_batch_size, self.sizes.window
        bos_id, results, done = bos_in_front(model, self.job.bos), [], 0
        total = max(1, effective_memory.grid_tokens(self.sizes.positions, size))
        for position in self.sizes.positions:
            cost = effective_memory.grid_tokens([position], size)

            def predict(last: int, position: int = position) -> NDArray[np.float32]:
                texts = self.tokens[:, position - last : position]
                return effective_memory.next_token_probabilities(model, texts, bos_id)

            def vary(last: int, position: int = position, predict: Any = predict) -> NDArray[np.float64]:
                whole = blocks.arrays(f"memory-{position}", lambda: {"all": predict(position)})["all"]
                name = f"memory-{position}-{last}"
                compared = blocks.arrays(
                    name, lambda: {"variation": effective_memory.total_variation(whole, predict(last))}
                )
                return compared["variation"]

            def step(share: float, done: int = done, cost: int = cost) -> None:
                progress((done + share * cost) / total)

            variations = effective_memory.measure_position(position, size, vary, step)
            results.append({"label": position // window, "position": position, **memory_values(variations)})
            done += cost
        return results

    def _key_tokens(self, blocks: NllBlocks, progress: Progress) -> NDArray[np.bool_] | None:
        """Return which tokens (N, T) are key tokens; None without an evaluator that reads the texts."""
        evaluator = self.evaluator
        if evaluator is None or "key_tokens" in self.left_out:
            return None

        def compute() -> dict[str, NDArray[Any]]:
            chosen = choose_key_tokens(evaluator.model, self.tokens, self.sizes.window, evaluator.bos, progress)
            return {"is_key": chosen.astype(np.uint8)}

        return blocks.arrays("key-tokens", compute)["is_key"].astype(bool)
