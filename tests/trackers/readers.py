"""Read exports back, each with its package's own classes."""

from __future__ import annotations

import csv
import struct
import subprocess
import sys
from pathlib import Path

Rows = dict[int, dict[str, float]]
_BLOCK, _FILE_HEADER, _CHUNK_HEADER = 32768, 7, 7


def read_csv(directory: Path) -> Rows:
    rows: Rows = {}
    for name, prefix in (("metrics.csv", "train/"), ("evaluations.csv", "eval/")):
        with (directory / name).open(newline="") as file:
            for row in csv.DictReader(file):
                values = {prefix + key: float(value) for key, value in row.items() if key != "step" and value}
                rows.setdefault(int(row["step"]), {}).update(values)
    return rows


def read_tensorboard(directory: Path) -> Rows:
    """Fail if a tag has two values at a step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    rows: Rows = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            assert tag not in rows.setdefault(event.step, {})
            rows[event.step][tag] = event.value
    return rows


def read_trackio(directory: Path, project: str, run_id: str) -> Rows:
    """Read in a process of its own, because trackio reads its directory once. Fail if a step is there twice."""
    code = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage; "
        "logs = SQLiteStorage.get_logs(sys.argv[1], run_id=sys.argv[2]); "
        "print(json.dumps([{key: v for key, v in log.items() if key != 'timestamp'} for log in logs]))"
    )
    import json
    import os

    found = subprocess.run(
        [sys.executable, "-c", code, project, run_id], capture_output=True, text=True, check=True,
        env={**os.environ, "TRACKIO_DIR": str(directory), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    rows: Rows = {}
    for log in json.loads(found.stdout.splitlines()[-1]):
        step = log.pop("step")
        assert step not in rows
        rows[step] = log
    return rows


def read_wandb(directory: Path) -> Rows:
    """Read the only run in a directory of offline runs. Fail if there are several, or a step is there twice."""
    import json

    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = directory.glob("*/*.wandb")
    rows: Rows = {}
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {
                item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item
            }
            values = {key: json.loads(value) for key, value in items.items()}
            assert record.history.step.num not in rows
            rows[record.history.step.num] = {key: v for key, v in values.items() if not key.startswith("_")}
    return rows


def _records(data: bytes) -> list[bytes]:
    """Return the records of a file of wandb, which has the log format of LevelDB after a header."""
    records, parts, position = [], b"", _FILE_HEADER
    while position + _CHUNK_HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK_HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + _CHUNK_HEADER : position + _CHUNK_HEADER + length]
        position += _CHUNK_HEADER + length
        if kind in (1, 4):  # whole, or last part
            records.append(parts)
            parts = b""
    return records
