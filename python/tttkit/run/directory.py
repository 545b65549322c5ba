"""The run directory: the names of its files and their readers. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, UsageError
from tttkit.results.summary import Summary
from tttkit.results.values import checked_object
from tttkit.storage import files

SCHEMA_VERSION = 2
"""Version of metadata.json that this tttkit writes; it reads all versions up to this one."""
STUDY_FILE, TRIALS = "study.json", "trials"
"""A directory with this file is a study; its runs are in this folder (docs/studies.md)."""
BLOCKS_PREFIX = ".nll-"
"""Prefix of the directory that holds the finished blocks of an evaluation until it ends."""
KEY_LENGTH = 16
"""Number of characters of the evaluation's key that follow the prefix."""
_EVALUATION = re.compile(r"^checkpoint_(\d{3,})$")
_MARKS = ("metadata.json", "all_summaries.json", "args.json", "checkpoint_000/summary.json")
"""A directory with any of these files is a run; the last two are from the earlier system."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The paths inside a run, and readers that take no lock. Nothing here creates or changes a file."""

    path: Path
    results: Path | None = None
    """A result file of the earlier system that is the whole run; names of other files then start with its name."""

    metadata = property(lambda self: self._file("metadata.json"))
    """Resolved config, fingerprints, and segments, and the result once the run has ended."""
    arguments = property(lambda self: self._file("args.json"))
    """Settings of a run of the earlier system; never written."""
    training_log = property(lambda self: self._file("training.log"))
    """The log for people, in plain text."""
    metrics = property(lambda self: self._file("metrics.jsonl"))
    """One record per logged step."""
    summaries = property(lambda self: self.results or self.path / "all_summaries.json")
    """The list of all summary.json, replaced after each evaluation."""
    heartbeat = property(lambda self: self._file("heartbeat.json"))
    """The current activity of the trainer, with a sequence number that increases while the trainer is alive."""
    ranks = property(lambda self: self._file("ranks.json"))
    """The state of every rank of a distributed run."""
    pruned = property(lambda self: self._file("pruned.json"))
    """Why a study trains the run no further, written by the driver of the study."""
    lock = property(lambda self: self._file("run.lock"))
    """Locked by the trainer as long as it is alive."""
    states = property(lambda self: self.path / "state")
    """The newest two training checkpoints, `step_N`. `tttkit.run.saved` lists them."""
    best_model = property(lambda self: self.path / "best_model")
    """The weights with the lowest selection_ppl."""
    final_model = property(lambda self: self.path / "final_model")
    """The weights after the last step."""

    @property
    def argument(self) -> str:
        """Return the run as an argument of a command, quoted for a shell."""
        return quoted(self.results or self.path)

    def checkpoint(self, index: int) -> Path:
        """Return the directory of evaluation `index`."""
        return self._file(f"checkpoint_{index:03d}")

    def checkpoints(self) -> dict[int, Path]:
        """Return the directories of evaluations by index."""
        matches = ((_EVALUATION.match(entry.name), entry) for entry in self.path.iterdir())
        return dict(sorted((int(match[1]), entry) for match, entry in matches if match))

    def read_metadata(self) -> dict[str, Any]:
        """Read metadata.json. Raises DataError when it is missing, damaged, or of a newer schema."""
        return checked_object(files.read_json(self.metadata), self.metadata, newest=SCHEMA_VERSION)

    def read_summaries(self) -> list[Summary]:
        """Read all_summaries.json; empty before the first evaluation. Raises DataError when it is damaged."""
        return Summary.read_all(self.summaries)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl by ascending step, without an incomplete last line.

        If a resumed run wrote several records of a step, the last one counts. Raises DataError when the file is not a
        plain file.
        """
        by_step: dict[int, dict[str, Any]] = {}
        for line in self.metric_lines():
            try:
                record = json.loads(line)
                by_step[int(record["step"])] = record
            except (ValueError, KeyError, TypeError):
                continue
        return [by_step[step] for step in sorted(by_step)]

    def metric_lines(self) -> list[str]:
        """Return the lines of metrics.jsonl unparsed, without an incomplete last one."""
        return _whole_lines(self.metrics)

    def read_heartbeat(self) -> dict[str, Any] | None:
        """Read heartbeat.json; None before the trainer has written one."""
        try:
            beat = files.read_json(self.heartbeat) if self.heartbeat.exists() else None
        except DataError:  # on a full disk it is overwritten in place, and may be read half-written
            return None
        return beat if isinstance(beat, dict) else None

    def tail_log(self, num_lines: int) -> list[str]:
        """Return the last lines of training.log; none when it is not a plain file."""
        try:
            return _whole_lines(self.training_log)[-num_lines:]
        except DataError:
            return []

    def _file(self, name: str) -> Path:
        return self.path / (name if self.results is None else f"{self.results.name}.{name}")


def quoted(path: Path) -> str:
    """Return a path as one argument of a command for a shell: never an option, and any bytes."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    # ANSI-C quoting, which bash and zsh read; backslashes and quotes are escaped by their bytes
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text)
    )
    return f"$'{escaped}'"


def find_run(path: Path | None, *, root: Path = Path("runs")) -> RunDirectory:
    """Return the run at `path`, or the run under `root` that was started or resumed last. Raises UsageError.

    `path` may also be a result file of the earlier system, of any name.
    """
    if path is not None:
        if not path.exists():
            raise UsageError(f"no such run directory: {path}", hint="`tttkit train --out RUN` creates one")
        if not path.is_dir():
            return _run_of_file(path)
        if not any((path / name).exists() for name in _MARKS) and not any(path.glob("chunk_eval*.json")):
            raise UsageError(f"{path} is not a run directory: it has neither metadata.json nor all_summaries.json")
        return RunDirectory(path)
    runs = [entry.parent for entry in root.glob("*/metadata.json")]
    if not runs:
        raise UsageError(f"no run found under {root}/", hint="name a run, or start one with `tttkit train`")
    return RunDirectory(max(runs, key=lambda run: (_last_start(run), run.name)))


def runs_at(path: Path) -> list[RunDirectory]:
    """Return the run at `path`, or all runs of the study there, by name. Raises UsageError as `find_run` does."""
    if not (path / STUDY_FILE).is_file():
        return [find_run(path)]
    runs = [entry.parent for entry in sorted((path / TRIALS).glob("*/metadata.json"))]
    if not runs:
        raise UsageError(f"no run of the study {path} has started", hint="start them with `tttkit sweep STUDY.toml`")
    return [RunDirectory(run) for run in runs]


def _run_of_file(path: Path) -> RunDirectory:
    """Return the run of a result file of the earlier system; all_summaries.json stands for its directory."""
    if path.suffix != ".json":
        raise UsageError(f"expected a run directory or a .json file of results, but {path} is a file of another kind")
    return RunDirectory(path.parent, None if path.name == "all_summaries.json" else path)


def _last_start(run: Path) -> str:
    try:
        segments = RunDirectory(run).read_metadata().get("segments") or [{}]
        return str(segments[-1].get("started", ""))
    except DataError:
        return ""


def _whole_lines(path: Path) -> list[str]:
    try:
        text = files.read_limited(path, sys.maxsize).decode(errors="replace")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
