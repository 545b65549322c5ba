"""The recurrent state along a text: its norm, its inner loss, and its distance from the states of training.

Training reads windows of W tokens from the initial state, so the states at positions up to W of such windows are those
that the model learned to use. Their mean and variance per feature come from one half of the windows. The distance of
a state of one head is the Mahalanobis distance with a diagonal covariance, divided by the root of the number of
features, so that a typical state of training has distance 1. A full covariance of a state of d x d numbers would need
far more than d^2 independent windows, and its shrinkage towards the diagonal would be nearly complete; the diagonal
one needs some tens of windows. A head is unexplored where its distance exceeds 99 % of the distances in the other half
of the windows.

Shapes: N rows, T tokens, P positions, H heads, F features of a head's state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tttkit.evaluate.blocks import Arrays
from tttkit.models import LanguageModel
from tttkit.models.diagnostics import observe

QUANTILE = 0.99
"""Share of training states of a head that do not count as unexplored."""
_SHARED = 0.05
"""Share of the mean variance of a head in the variance of each feature: one that hardly varied does not dominate."""

Progress = Callable[[float], None]


def layers_with_memory(model: LanguageModel) -> list[int]:
    """Return the indices of the layers that have a recurrent state; the window of an attention layer is none."""
    state = model.initial_state(1)
    return [
        index
        for index, (block, before) in enumerate(zip(model.model.layers, state.layers, strict=True))
        if block.seq_modeling_block.memories(before)  # type: ignore[operator, union-attr]
    ]


@dataclasses.dataclass(frozen=True)
class Reference:
    """The states of training positions of each layer with a memory."""

    mean: list[Tensor]
    """(H, F) each."""
    scale: list[Tensor]
    """Standard deviations, (H, F) each."""
    threshold: list[Tensor]
    """Distance beyond which a head is unexplored, (H) each."""

    def distances(self, memories: list[Tensor]) -> list[Tensor]:
        """Return the distance of each head, (N, H) per layer, of memories (N, H, F)."""
        return [
            ((memory - mean) / scale).square().mean(dim=-1).sqrt()
            for memory, mean, scale in zip(memories, self.mean, self.scale, strict=True)
        ]

    def to_arrays(self) -> Arrays:
        """Return the fields as arrays of a block."""
        fields = {"mean": self.mean, "scale": self.scale, "threshold": self.threshold}
        return {f"{name}{i}": x.cpu().numpy() for name, tensors in fields.items() for i, x in enumerate(tensors)}

    @staticmethod
    def from_arrays(arrays: Arrays, device: torch.device) -> Reference:
        """Invert `to_arrays`."""
        count = sum(name.startswith("mean") for name in arrays)
        named = (
            [torch.from_numpy(arrays[f"{name}{i}"]).to(device) for i in range(count)]
            for name in ("mean", "scale", "threshold")
        )
        return Reference(*named)


@torch.inference_mode()
def reference_of(
    model: LanguageModel, windows: NDArray[np.int64], stride: int, rows: int, progress: Progress
) -> Reference:
    """Return the reference of training windows (N, W), `rows` at once: fitted on one half, threshold from the other."""
    layers = layers_with_memory(model)
    fitted, held_out = windows[::2], windows[1::2]
    sums: list[tuple[Tensor, Tensor]] = []
    count = 0
    for share, (memories, num) in _batches(model, fitted, stride, rows, layers):
        parts = [(m.double().sum(0), m.double().square().sum(0)) for m in memories]
        sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, parts, strict=True)] if sums else parts
        count += num
        progress(share / 2)
    mean = [total / count for total, _ in sums]
    variance = [
        (squares / count - center.square()).clamp_min(0) for (_, squares), center in zip(sums, mean, strict=True)
    ]
    smallest = torch.finfo(torch.float32).tiny
    scale = [
        ((1 - _SHARED) * each + _SHARED * each.mean(dim=-1, keepdim=True)).clamp_min(smallest).sqrt()
        for each in variance
    ]
    reference = Reference([each.float() for each in mean], [each.float() for each in scale], [])
    seen: list[list[Tensor]] = [[] for _ in layers]
    for share, (memories, _) in _batches(model, held_out, stride, rows, layers):
        for known, distance in zip(seen, reference.distances(memories), strict=True):
            known.append(distance)
        progress(0.5 + share / 2)
    threshold = [torch.cat(known).quantile(QUANTILE, dim=0) for known in seen]
    return dataclasses.replace(reference, threshold=threshold)


def _batches(
    model: LanguageModel, windows: NDArray[np.int64], stride: int, rows: int, layers: list[int]
) -> Iterator[tuple[float, tuple[list[Tensor], int]]]:
    """Yield the share done, and the memories (N, H, F) per layer at every stride-th position with their number N."""
    for first in range(0, len(windows), rows):
        ids = torch.from_numpy(windows[first : first + rows]).to(model.device)
        state = model.initial_state(len(ids))
        for start in range(0, ids.shape[1] - stride + 1, stride):
            _, state = model.advance(ids[:, start : start + stride], state)
            yield (first + len(ids)) / len(windows), (_flat(model, state.layers, layers), len(ids))


@torch.inference_mode()
def along(
    model: LanguageModel, tokens: NDArray[np.int64], stride: int, reference: Reference | None, progress: Progress
) -> Arrays:
    """Read one text (T) and measure at every stride-th position, P in all.

    Return float32 arrays (P, layers): `norm` of the memory, all heads together; with a reference `distance`, the root
    mean square over heads, and `unexplored`, the share of heads; `before` and `after`, the inner loss per feature over
    the stride that ends there.
    """
    layers = layers_with_memory(model)
    sequence_layers = [block.seq_modeling_block for block in model.model.layers]
    ids = torch.from_numpy(tokens)[None].to(model.device)
    state, rows = model.initial_state(1), []
    stops = range(stride, len(tokens) + 1, stride)
    for stop in stops:
        reports, state = observe(model, sequence_layers, ids[:, stop - stride : stop], state)  # type: ignore[arg-type]
        memories = _flat(model, state.layers, layers)
        row = {"norm": [memory.square().sum().sqrt() for memory in memories]}
        if reference is not None:
            distances = reference.distances(memories)
            row["distance"] = [distance.square().mean().sqrt() for distance in distances]
            row["unexplored"] = [
                (distance > limit).float().mean()
                for distance, limit in zip(distances, reference.threshold, strict=True)
            ]
        learning = [report for report in reports.values() if "inner_loss_before" in report]
        for name in ("before", "after") if learning else ():
            row[name] = [report[f"inner_loss_{name}"].mean() for report in learning]
        rows.append(row)
        progress(stop / stops[-1])
    return {name: torch.stack([torch.stack(row[name]) for row in rows]).float().cpu().numpy() for name in rows[0]}


def _flat(model: LanguageModel, state: tuple[dict[str, Tensor], ...], layers: list[int]) -> list[Tensor]:
    """Return the memories of each layer in one tensor (N, H, F)."""
    blocks = model.model.layers
    return [
        torch.cat([memory.float().flatten(2) for memory in blocks[index].seq_modeling_block.memories(state[index])], -1)  # type: ignore[operator, union-attr]
        for index in layers
    ]
