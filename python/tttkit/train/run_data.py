"""The data of a run: a DATA directory that exists, or one that is prepared inside the run when it starts.

A run that has prepared its data never looks at their source again, so the source may change or vanish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.config.run import Config, DataConfig, TrainConfig
from tttkit.config.sections import TEXT_TASK
from tttkit.data import prepare_dataset
from tttkit.data.account import shown
from tttkit.data.job import PrepareProgress
from tttkit.data.manifest import Manifest, load_manifest
from tttkit.data.synthetic.prepare import prepare_task
from tttkit.data.text_tasks.prepare import prepare_passkey
from tttkit.run.data_location import OWN_DATA, find_data, fingerprint_of
from tttkit.run.directory import RunDirectory

_NOT_OF_THE_SOURCE = ("path", "io")
"""Fields of DataConfig that do not say what the run's own data are prepared from."""
_FEWEST_EXAMPLES, _MOST_EXAMPLES = 1_000, 100_000
"""Examples of a synthetic task: enough that memory of single examples is no help, and a few seconds to prepare."""


def find_or_prepare_data(
    config: Config, run: RunDirectory, old: Mapping[str, Any] | None, progress: PrepareProgress
) -> tuple[Path, Manifest]:
    """Return the DATA directory of a run and its manifest. `old` is metadata.json of an earlier call.

    Raises UsageError if there is no DATA directory, and what `prepare_dataset` raises.
    """
    if config.data.path is not None:
        path = Path(config.data.path)
        if old and "data" in old and fingerprint_of(path) is None:
            path = find_data(run, old["data"])
        return path, load_manifest(path)
    path = run.path / OWN_DATA
    if old and fingerprint_of(path) is not None:
        manifest = load_manifest(path)
        if _is_prepared_from(config.data, manifest, old):
            return path, manifest
    return path, _prepare(config, path, progress)


def has_data(config: Config, run: RunDirectory) -> bool:
    """Whether the DATA directory of a configuration can be read where the configuration says that it is."""
    return fingerprint_of(run.path / OWN_DATA if config.data.path is None else Path(config.data.path)) is not None


def _is_prepared_from(data: DataConfig, manifest: Manifest, old: Mapping[str, Any]) -> bool:
    """Whether the prepared data of a run are those of `data`, without a look at the source."""
    if "data" in old:
        before = {**dataclasses.asdict(DataConfig()), **old["config"]["data"]}
        now = dataclasses.asdict(data)
        return all(before[name] == now[name] for name in now if name not in _NOT_OF_THE_SOURCE)
    # the run ended before it recorded its data
    request = manifest.request
    return bool(
        request.get("sources") == [shown(data.source)]
        and request.get("tokenizer") == shown(data.tokenizer)
        and request.get("documents") == data.documents
        and request.get("validation") == (None if data.validation is None else [shown(data.validation)])
        and request.get("validation_fraction") == (data.validation_fraction if data.validation is None else None)
    )


def _prepare(config: Config, path: Path, progress: PrepareProgress) -> Manifest:
    data = config.data
    if data.task == TEXT_TASK:
        return prepare_passkey(
            path, window=config.train.window, num_examples=_num_examples(config.train), tokenizer=data.tokenizer,
            progress=progress,
        )  # fmt: skip
    if data.task is not None:
        return prepare_task(
            data.task, path, window=config.train.window, num_examples=_num_examples(config.train), progress=progress
        )
    return prepare_dataset(
        [data.source],
        path,
        tokenizer=data.tokenizer,
        validation=[data.validation] if data.validation else None,
        validation_fraction=data.validation_fraction,
        documents=data.documents,
        progress=progress,
    )


def _num_examples(train: TrainConfig) -> int:
    """Return how many examples of a task are prepared: one per window of the run, up to a bound."""
    windows = train.max_steps * train.tokens_per_step // train.window
    return max(_FEWEST_EXAMPLES, min(windows + 1, _MOST_EXAMPLES))
