"""The only reader of the earlier system's result files (docs/earlier-system.md), as Summary and Curves.

There are five variants of results: `all_summaries.json` with labels (R1, R2, R4) or with means only (R3), a
`summary.json` per evaluation, and the curve of one evaluation, `chunk_eval_*.json` (R5). Settings are in
`metadata.json` or `args.json`. Perplexities of 0 and null were never measured and become None; a training loss of
exactly 0 was logged and stays. `unknowns` lists what the files do not record; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.results.contexts import LABELS
from tttkit.results.curves import Curves
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.results.values import number
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

_PERPLEXITIES = ("ttt_ppl_", "sw_ppl_")
"""Prefixes of the keys that hold perplexities."""
_WHOLE = ("checkpoint_idx", "step", "training_window", "eval_max_length", "chunk_size", "chunk_stride", "num_sequences")
"""Keys whose values are whole numbers, though some files hold them as floats."""
_EVALUATION = re.compile(r"ckpt(\d+)")
_CURVE = re.compile(r"^chunk_eval.*\.json$")
_SETTINGS = {
    "window_size": "training_window", "max_seq_length": "training_window", "total_steps": "max_train_steps",
    "batch_size": "per_device_train_batch_size", "grad_accum_steps": "gradient_accumulation_steps",
    "lr": "learning_rate",
}  # fmt: skip
"""Names in args.json, and the names of the same settings in metadata.json."""


def is_legacy(run: RunDirectory) -> bool:
    """Whether the earlier system wrote a run: it recorded neither a config in metadata.json nor schema versions."""
    if run.metadata.exists() and "config" in run.read_metadata():
        return False
    if not run.summaries.exists():
        return True
    summaries = files.read_json(run.summaries)
    first = summaries[0] if isinstance(summaries, list) and summaries else None
    return not (isinstance(first, dict) and "schema_version" in first)


def read_metadata(run: RunDirectory) -> dict[str, Any]:
    """Read metadata.json; for the earlier system, add the settings of args.json and the name of the model.

    The result is empty if neither file exists. Raises DataError when one is damaged.
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


def read_summaries(run: RunDirectory) -> list[Summary]:
    """Read all evaluations of a run in order of step; a run of tttkit has them in all_summaries.json.

    Raises DataError when a file is damaged or holds no evaluation.
    """
    if not is_legacy(run):
        return run.read_summaries()
    metadata = read_metadata(run)
    by_index: dict[int, Summary] = {}
    for path in _result_files(run):
        for index, item in enumerate(_entries(path)):
            summary = _summary(item, len(by_index), path, metadata)
            if summary.step is None and not _is_curve(item):
                raise DataError(f"{path}: entry {index} has no `step`")
            by_index[summary.index or 0] = summary
    return sorted(by_index.values(), key=lambda summary: -1 if summary.step is None else summary.step)


def read_curves(run: RunDirectory) -> list[Curves]:
    """Read the curves of the R5 files of a run, chunk_eval_*.json; empty for a run of tttkit and other variants.

    Raises DataError as `read_summaries` does.
    """
    if not is_legacy(run):
        return []
    metadata = read_metadata(run)
    curves: list[Curves] = []
    for path in _result_files(run):
        curves += [_curves(item, len(curves), path, metadata) for item in _entries(path) if _is_curve(item)]
    return curves


def unknowns(run: RunDirectory, summaries: list[Summary]) -> list[str]:
    """Return a sentence for each fact that the files of an earlier run do not record; empty for a run of tttkit."""
    if not is_legacy(run):
        return []
    metadata = read_metadata(run)
    missing = [
        "No interval can be given: NLL by sequence was not kept, and one chunk has only 16 positions of each sequence.",
        "Perplexities are exp of the lower median over sequences, not the corpus perplexity, so they are biased low.",
        "At 1 x W the sliding window was overwritten by the full context, so the two are equal by construction.",
        "The contexts sw_aligned and reset were not measured, so no win of the full context can be claimed.",
        "No fingerprint of text or tokenizer was recorded, so it cannot be shown that two runs used the same text.",
    ]
    if tokens_per_step(metadata) is None:
        missing.append("The batch size or the accumulation was not recorded, so tokens are unknown.")
    else:
        missing.append(
            "Tokens are an upper bound: they are counted as if every step were an update and every window full."
        )
    if not run.metadata.exists():
        missing.append("There is no metadata.json, so versions, times and the end of the run are unknown.")
    elif "end_time" not in metadata:
        missing.append("metadata.json was written at the start only, so the run never recorded an end.")
    if not summaries:
        missing.append("No evaluation was kept.")
    elif summaries[-1].value("training_loss") is None:
        missing.append("The training loss is null or absent at the last evaluation.")
    return missing


def tokens_per_step(metadata: dict[str, Any]) -> int | None:
    """Return the tokens per step by the earlier system's settings, as if a step were an update and all windows full."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "training_window")
    values = [metadata.get(name) for name in names]
    if not all(_is_positive(value) for value in values):
        return None
    return math.prod(value for value in values if isinstance(value, int))


def _result_files(run: RunDirectory) -> list[Path]:
    if run.summaries.exists():
        return [run.summaries]
    if run.results is not None or not run.path.is_dir():
        return []
    each = [path / SUMMARY_NAME for path in run.checkpoints().values() if (path / SUMMARY_NAME).exists()]
    return each or sorted(path for path in run.path.iterdir() if _CURVE.match(path.name))


def _entries(path: Path) -> list[dict[str, Any]]:
    values = files.read_json(path)
    entries = [values] if isinstance(values, dict) else values
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise DataError(f"{path} holds no results: expected a list of summaries, or one")
    if not entries:
        raise DataError(f"{path} is an empty list: no evaluation was kept")
    return entries


def _is_curve(item: dict[str, Any]) -> bool:
    """Whether a result is the curve of one evaluation (R5)."""
    return "chunk_ppl_ttt" in item


def _summary(item: dict[str, Any], count: int, path: Path, metadata: dict[str, Any]) -> Summary:
    """Return the summary of one entry of any variant; missing values are None, positions and steps whole numbers."""
    if _is_curve(item):
        return _summary_of_curve(item, count, path, metadata)
    values = {"aggregate": "median", **item}
    index = number(item.get("checkpoint_idx"))
    values["checkpoint_idx"] = count if index is None else int(index)
    values.setdefault("step", _planned_step(metadata, values["checkpoint_idx"]))
    values.setdefault("training_window", metadata.get("training_window"))
    for key, value in values.items():
        if key.startswith(_PERPLEXITIES):
            values[key] = _perplexity(value)
        elif key in _WHOLE or key.startswith("x_pos_at_"):
            known = number(value)
            values[key] = None if known is None else int(known)
    if not _is_positive(values["training_window"]):
        raise DataError(f"{path}: entry {count} has no `training_window`")
    for name in (*(f"at_{multiple}xW" for multiple in LABELS), "mean"):
        full, windowed = (values.get(f"{prefix}_ppl_{name}") for prefix in ("ttt", "sw"))
        if full is not None and windowed is not None:
            values[f"improvement_{name}"] = windowed - full
    each = tokens_per_step({**metadata, "training_window": values["training_window"]})
    if each is not None and values["step"] is not None:
        values.setdefault("tokens_seen", each * values["step"])
    return Summary(values)


def _summary_of_curve(item: dict[str, Any], count: int, path: Path, metadata: dict[str, Any]) -> Summary:
    """Return the summary of a chunk_eval_*.json; a label gets the chunk with the nearest center, the first on ties."""
    curves = _curves(item, count, path, metadata)
    values: dict[str, Any] = {
        "aggregate": "median", "checkpoint_idx": curves.index, "step": curves.step, "training_window": curves.window,
        "eval_max_length": item.get("max_length"), "chunk_size": item.get("chunk_size"),
        "chunk_stride": item.get("chunk_stride"), "num_sequences": item.get("num_sequences"),
    }  # fmt: skip
    centers = item["chunk_centers"]
    for multiple in LABELS:
        if multiple * curves.window <= int(curves.ends[-1]) + curves.window // 2:
            nearest = min(range(len(centers)), key=lambda chunk: abs(centers[chunk] - multiple * curves.window))
            values[f"x_pos_at_{multiple}xW"] = int(centers[nearest])
            for name in ("ttt", "sw"):
                values[f"{name}_ppl_at_{multiple}xW"] = _perplexity(item[f"chunk_ppl_{name}"][nearest])
    return Summary(values)


def _curves(item: dict[str, Any], count: int, path: Path, metadata: dict[str, Any]) -> Curves:
    """Return the curves of a chunk_eval_*.json; its name holds the number of the evaluation if there are several."""
    window, ends, centers = (item.get(key) for key in ("training_window", "chunk_ends", "chunk_centers"))
    perplexities = {name: item.get(f"chunk_ppl_{key}") for name, key in (("full", "ttt"), ("sw", "sw"))}
    lists = (ends, centers, *perplexities.values())
    if not _is_positive(window) or not all(isinstance(v, list) and v and len(v) == len(ends or ()) for v in lists):
        raise DataError(f"{path} holds no curve: expected training_window and lists of equal length")
    sizes = {
        "training_window": window, "eval_max_length": item.get("max_length"), "chunk_size": item.get("chunk_size"),
        "chunk_stride": item.get("chunk_stride"), "num_sequences": item.get("num_sequences"),
    }  # fmt: skip
    facts = {key: value for key, value in sizes.items() if value is not None}
    mean_nll = {name: [_log(_perplexity(value)) for value in values or ()] for name, values in perplexities.items()}
    match = _EVALUATION.search(path.name)
    index = count if match is None else int(match[1])
    step = None if match is None else _planned_step(metadata, index)
    return Curves.new(facts, centers or (), ends or (), mean_nll, {}, index=index, step=step)


def _planned_step(metadata: dict[str, Any], index: int) -> int | None:
    planned = metadata.get("eval_steps")
    return int(planned[index]) if isinstance(planned, list) and 0 <= index < len(planned) else None


def _perplexity(value: Any) -> float | None:
    known = number(value)
    return known if known is not None and known > 0 else None


def _log(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
