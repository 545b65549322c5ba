"""Export to TensorBoard: one event file per run, whose bytes depend on what the run recorded and on nothing else.

An export compares the file with the bytes that it would write. If the file is a beginning of them, as after a kill,
the rest is appended, so that a TensorBoard that has the file open sees it; otherwise the file is replaced.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tttkit.errors import UsageError
from tttkit.storage import files
from tttkit.trackers.rows import Recorded, Row, RunFacts


class TensorboardTracker:
    """Writes event files that `tensorboard --logdir DIRECTORY` shows."""

    def __init__(self, directory: Path, facts: RunFacts) -> None:
        """Write into `directory`. Raises UsageError if tensorboard is not installed, OSError."""
        try:
            from tensorboard.compat.proto import event_pb2
            from tensorboard.summary.writer import record_writer
        except ImportError as error:
            hint = "pip install 'tttkit[tensorboard]'"
            raise UsageError("--to tensorboard needs the package tensorboard", hint=hint) from error
        self._event: Any = event_pb2.Event
        self._writer: Any = record_writer.RecordWriter
        # TensorBoard reads every file whose name holds `tfevents`; ours has no time in it, so that it is found again.
        self._path = directory / f"events.out.tfevents.0.{facts.run_id}"
        self._figures = directory / "figures" / f"events.out.tfevents.0.{facts.run_id}"
        files.make_directory(self._figures.parent)
        for leftover in directory.rglob(f"{files.TEMPORARY_PREFIX}*"):  # TensorBoard would read it too
            files.remove_tree(leftover)
        self._written: list[Row] = []
        self._is_checked = False

    def write(self, recorded: Recorded) -> None:
        """Bring the event files up to date. Raises DiskFullError, OSError."""
        rows = recorded.final
        if self._is_checked and rows[: len(self._written)] == self._written:
            new = b"".join(map(self._encode, rows[len(self._written) :]))
            files.append_bytes(self._path, new)
        else:
            self._write_checked(self._version() + b"".join(map(self._encode, rows)))
        self._written, self._is_checked = rows, True
        if recorded.figures and rows:
            self._write_figures(recorded.figures, rows[-1])

    def close(self) -> None:
        """Nothing is open."""

    def _write_checked(self, data: bytes) -> None:
        """Append what is missing from the file, or replace it if it does not hold a beginning of `data`."""
        existing = self._path.read_bytes() if self._path.exists() else b""
        if data.startswith(existing):
            files.append_bytes(self._path, data[len(existing) :])
        else:
            files.write_bytes(self._path, data)

    def _write_figures(self, figures: list[Path], last: Row) -> None:
        """Replace the file of figures if they changed. TensorBoard shows them as a run of their own, `figures`."""
        event = self._event(wall_time=last.time, step=last.step)
        for path in figures:
            value = event.summary.value.add(tag=f"figures/{path.stem}")
            value.image.encoded_image_string = path.read_bytes()
        data = self._version() + self._record(event)
        if not self._figures.exists() or self._figures.read_bytes() != data:
            files.write_bytes(self._figures, data)

    def _version(self) -> bytes:
        """Return the record with which every event file starts."""
        return self._record(self._event(wall_time=0.0, file_version="brain.Event:2"))

    def _encode(self, row: Row) -> bytes:
        """Return a row as one record. A record is read whole or not at all."""
        event = self._event(wall_time=row.time, step=row.step)
        for key, value in row.values.items():
            event.summary.value.add(tag=key, simple_value=value)
        return self._record(event)

    def _record(self, event: Any) -> bytes:
        buffer = io.BytesIO()
        self._writer(buffer).write(event.SerializeToString(deterministic=True))
        return buffer.getvalue()
