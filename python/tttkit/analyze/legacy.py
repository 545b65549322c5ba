"""Result files of the earlier system, read as ours are; what they leave open is said, never guessed.

Five variants of results: `all_summaries.json` with labels (R1, R2, R4) or with means only (R3), `summary.json` per
checkpoint, and the curve of one evaluation, `chunk_eval_*.json` (R5); settings in `metadata.json` or `args.json`.
Perplexities of 0 and null were never measured and become None; a training loss of exactly 0 was logged and stays.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

LABELS = (1, 2, 5, 10, 20, 50, 100)
_PERPLEXITY = re.compile(r"^(ttt|sw)_ppl_(at_\d+xW|mean|min|max)$")
_WHOLE = re.compile(
    r"^(checkpoint_idx|step|training_window|eval_max_length|chunk_size|chunk_stride|num_sequences|x_pos_at_\d+xW)$"
)
_CURVE = re.compile(r"^chunk_eval.*\.json$")
_SETTINGS = {
    "window_size": "training_window", "max_seq_length": "training_window", "total_steps": "max_train_steps",
    "batch_size": "per_device_train_batch_size", "grad_accum_steps": "gradient_accumulation_steps",
    "lr": "learning_rate",
}  # fmt: skip
"""Names in args.json and what the same setting is called in metadata.json."""


def is_legacy(run: RunDirectory) -> bool:
    """Whether the earlier system wrote it: it kept neither a configuration in metadata.json nor schema versions."""
    if run.metadata.exists() and "config" in run.read_metadata():
        return False
    if not run.summaries.exists():
        return True
    summaries = files.read_json(run.summaries)
    first = summaries[0] if isinstance(summaries, list) and summaries else None
    return not (isinstance(first, dict) and "schema_version" in first)


def read_metadata(run: RunDirectory) -> dict[str, Any]:
    """metadata.json; for the earlier system with the settings of args.json under the same names, and a model's name.

    Empty where neither file is there. Raises DataError when one is damaged.
    """
    metadata = run.read_metadata() if run.metadata.exists() else {}
    if "config" in metadata:
        return metadata
    settings: dict[str, Any] = files.read_json(run.arguments) if run.arguments.exists() else {}
    if not isinstance(settings, dict):
        raise DataError(f"{run.arguments} holds no object")
    known = {_SETTINGS.get(key, key): value for key, value in settings.items()} | metadata
    if isinstance(known.get("model_size"), str):
        name = f"ttt-{known.get('ttt_layer_type', 'linear')}"
        known["model"] = {"name": name, "size": known["model_size"]}
    return known


def read_summaries(run: RunDirectory) -> list[dict[str, Any]]:
    """All evaluations of a run in order of step, under the keys of evaluation.md; an R5 file brings its `curves`.

    Of our runs, all_summaries.json as it is. Raises DataError when a file is damaged or holds no evaluation.
    """
    if not is_legacy(run):
        return run.read_summaries()
    metadata = read_metadata(run)
    found: dict[int, dict[str, Any]] = {}
    for path in _result_files(run):
        for index, item in enumerate(_entries(path)):
            summary = _normalise(item, len(found), path, metadata)
            found[summary["checkpoint_idx"]] = summary
            if summary["step"] is None and "curves" not in summary:
                raise DataError(f"{path}: entry {index} has no `step`")
    return sorted(found.values(), key=lambda item: -1 if item["step"] is None else int(item["step"]))


def unknowns(run: RunDirectory, summaries: list[dict[str, Any]]) -> list[str]:
    """What the files of an earlier run cannot tell, a sentence each; nothing for a run of ours."""
    if not is_legacy(run):
        return []
    metadata = read_metadata(run)
    missing = [
        "No interval: NLL by sequence was not kept, and one chunk rests on 16 positions of each sequence.",
        "Perplexities are exp of the lower median over sequences, not the corpus perplexity: biased low.",
        "At 1 x W the sliding window was overwritten by the full context, so the two are equal by construction.",
        "The contexts sw_aligned and reset were not measured, so no win of the full context can be claimed.",
        "Neither text nor tokenizer is named by a fingerprint: equal text cannot be shown.",
    ]
    if tokens_per_step(metadata) is None:
        missing.append("Tokens: batch or accumulation is not recorded, so tokens are unknown.")
    else:
        missing.append("Tokens: counted as if a step were an update and every window full, so an upper bound.")
    if not run.metadata.exists():
        missing.append("No metadata.json: versions, times and the end of the run are unknown.")
    elif "end_time" not in metadata:
        missing.append("metadata.json was written at the start only: the run never recorded an end.")
    if not summaries:
        missing.append("No evaluation was kept.")
    elif summaries[-1].get("training_loss") is None:
        missing.append("Training loss: null or absent at the last evaluation.")
    return missing


def tokens_per_step(metadata: dict[str, Any]) -> int | None:
    """Tokens of a step by the earlier system's settings, if a step was an update and every window full."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "training_window")
    values = [metadata.get(name) for name in names]
    return math.prod(value for value in values if isinstance(value, int)) if all(_positive(v) for v in values) else None


def _result_files(run: RunDirectory) -> list[Path]:
    if run.summaries.exists():
        return [run.summaries]
    if run.results is not None or not run.path.is_dir():
        return []
    each = [path / "summary.json" for path in run.checkpoints().values() if (path / "summary.json").exists()]
    return each or sorted(path for path in run.path.iterdir() if _CURVE.match(path.name))


def _entries(path: Path) -> list[dict[str, Any]]:
    values = files.read_json(path)
    entries = [values] if isinstance(values, dict) else values
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise DataError(f"{path} holds no results: expected a list of summaries, or one")
    if not entries:
        raise DataError(f"{path} is an empty list: no evaluation was kept")
    return entries


def _normalise(item: dict[str, Any], count: int, path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """One entry of any variant. What is missing is None; numbers of positions and steps become whole."""
    if "chunk_ppl_ttt" in item:
        return _of_curve(item, count, path, metadata)
    summary = {"aggregate": "median", **item}
    index = _number(item.get("checkpoint_idx"))
    summary["checkpoint_idx"] = count if index is None else int(index)
    summary.setdefault("step", _planned_step(metadata, summary["checkpoint_idx"]))
    summary.setdefault("training_window", metadata.get("training_window"))
    for key, value in summary.items():
        if _PERPLEXITY.match(key):
            summary[key] = _perplexity(value)
        elif _WHOLE.match(key):
            number = _number(value)
            summary[key] = None if number is None else int(number)
    if not _positive(summary["training_window"]):
        raise DataError(f"{path}: entry {count} has no `training_window`")
    for name in (*(f"at_{multiple}xW" for multiple in LABELS), "mean"):
        full, windowed = (summary.get(f"{prefix}_ppl_{name}") for prefix in ("ttt", "sw"))
        if full is not None and windowed is not None:
            summary[f"improvement_{name}"] = windowed - full
    each = tokens_per_step({**metadata, "training_window": summary["training_window"]})
    if each is not None and summary["step"] is not None:
        summary.setdefault("tokens_seen", each * summary["step"])
    return summary


def _of_curve(item: dict[str, Any], count: int, path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """The summary and the curve that a chunk_eval_*.json stands for; labels go by center, the first on ties."""
    window, ends = item.get("training_window"), item.get("chunk_ends")
    centers = item.get("chunk_centers")
    series = {name: item.get(f"chunk_ppl_{name}") for name in ("ttt", "sw")}
    lists = (ends, centers, *series.values())
    if not _positive(window) or not all(isinstance(v, list) and v and len(v) == len(ends or ()) for v in lists):
        raise DataError(f"{path} holds no curve: expected training_window and lists of equal length")
    assert isinstance(window, int) and isinstance(ends, list) and isinstance(centers, list)  # noqa: PT018
    values = {name: [_perplexity(value) for value in found or ()] for name, found in series.items()}
    step = re.search(r"ckpt(\d+)", path.name)
    summary: dict[str, Any] = {
        "aggregate": "median", "checkpoint_idx": count if step is None else int(step[1]),
        "step": None if step is None else _planned_step(metadata, int(step[1])),
        "training_window": window, "eval_max_length": item.get("max_length"), "chunk_size": item.get("chunk_size"),
        "chunk_stride": item.get("chunk_stride"), "num_sequences": item.get("num_sequences"),
    }  # fmt: skip
    for multiple in LABELS:
        if multiple * window <= int(ends[-1]) + window // 2:
            nearest = min(range(len(centers)), key=lambda chunk: abs(centers[chunk] - multiple * window))
            summary[f"x_pos_at_{multiple}xW"] = int(centers[nearest])
            for name, found in values.items():
                summary[f"{name}_ppl_at_{multiple}xW"] = found[nearest]
    sizes = ("training_window", "eval_max_length", "chunk_size", "chunk_stride", "num_sequences")
    summary["curves"] = {
        **{key: summary[key] for key in sizes if summary[key] is not None}, "centers": centers, "ends": ends,
        "full_mean_nll": [_log(value) for value in values["ttt"]],
        "sw_mean_nll": [_log(value) for value in values["sw"]],
    }  # fmt: skip
    return summary


def _planned_step(metadata: dict[str, Any], index: int) -> int | None:
    planned = metadata.get("eval_steps")
    return int(planned[index]) if isinstance(planned, list) and 0 <= index < len(planned) else None


def _perplexity(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _log(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def _number(value: Any) -> float | None:
    """A finite number; None for null, for NaN and for the strings that stand for it."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
