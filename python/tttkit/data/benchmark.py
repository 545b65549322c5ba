"""How fast text becomes token shards here, beside whichever peers are installed, on the user's own file.

All engines run in turn, round after round, each from nothing: tokenizer loaded, caches cold. Figures are medians. CPU
time counts all threads, so it compares fairly on a machine that others use too.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tttkit import files
from tttkit.data.prepare import prepare_dataset
from tttkit.errors import UsageError

SAMPLE_BYTES = 2 << 20
"""Peers that take minutes for what others do in a second are given this much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One engine on one text."""

    engine: str
    num_bytes: int
    num_tokens: int
    seconds: float
    """Wall time, median."""
    cpu_seconds: float
    """CPU time of all threads, median."""


Engine = Callable[[], int]
"""Encodes the text once and returns how many tokens it has."""


def measure_preparation(
    paths: Sequence[Path], tokenizer: Path, *, threads: Sequence[int] = (1,), rounds: int = 3
) -> list[Measurement]:
    """Time `data prepare` on `paths` with each number of threads, and every peer that is installed, once per round.

    Raises UsageError for an empty text.
    """
    num_bytes = sum(path.stat().st_size for path in paths)
    if num_bytes == 0:
        raise UsageError(f"no text in {', '.join(map(str, paths))}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sample = _sample(paths, root / "sample.txt")
        engines: dict[str, tuple[int, Engine]] = {
            f"tttkit data prepare, {count} thread{'s' * (count > 1)}": (
                num_bytes, _prepare(paths, tokenizer, root, count)
            )
            for count in threads
        }  # fmt: skip
        engines |= {name: (num_bytes, engine) for name, engine in _fast_peers(paths, tokenizer).items()}
        sample_bytes = sample.stat().st_size
        engines |= {name: (sample_bytes, engine) for name, engine in _slow_peers(sample, tokenizer, root).items()}
        return _run(engines, rounds)


def _run(engines: dict[str, tuple[int, Engine]], rounds: int) -> list[Measurement]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    tokens: dict[str, int] = {}
    for _ in range(rounds):
        for name, (_, engine) in engines.items():
            started, cpu = time.perf_counter(), time.process_time()
            tokens[name] = engine()
            times[name].append((time.perf_counter() - started, time.process_time() - cpu))
    return [
        Measurement(
            engine=name,
            num_bytes=num_bytes,
            num_tokens=tokens[name],
            seconds=statistics.median(wall for wall, _ in times[name]),
            cpu_seconds=statistics.median(cpu for _, cpu in times[name]),
        )
        for name, (num_bytes, _) in engines.items()
    ]


def _sample(paths: Sequence[Path], target: Path) -> Path:
    data = b""
    for path in paths:
        with path.open("rb") as file:
            data += file.read(SAMPLE_BYTES - len(data))
    files.write_text(target, data.decode("utf-8", errors="ignore"))
    return target


def _prepare(paths: Sequence[Path], tokenizer: Path, root: Path, threads: int) -> Engine:
    def run() -> int:
        with tempfile.TemporaryDirectory(dir=root) as out:
            manifest = prepare_dataset(
                [str(path) for path in paths],
                Path(out) / "data",
                str(tokenizer),
                validation_fraction=0,
                threads=threads,
            )
        return manifest.splits["train"].num_tokens

    return run


def _fast_peers(paths: Sequence[Path], tokenizer: Path) -> dict[str, Engine]:
    if importlib.util.find_spec("gigatoken") is None:
        return {}

    def gigatoken() -> int:
        from gigatoken import Tokenizer

        rows = Tokenizer(str(tokenizer)).encode_files([str(path) for path in paths], parallel=False)
        return sum(len(row) for row in rows)

    return {"gigatoken encode_files, 1 thread": gigatoken}


def _slow_peers(sample: Path, tokenizer: Path, root: Path) -> dict[str, Engine]:
    def tokenizers() -> int:
        from tokenizers import Tokenizer

        lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
        encoded = Tokenizer.from_file(str(tokenizer)).encode_batch_fast(lines, add_special_tokens=False)
        return sum(len(one.ids) for one in encoded)

    def recipe() -> int:
        with tempfile.TemporaryDirectory(dir=root) as out:
            return _usual_recipe(sample, tokenizer, Path(out))

    return {"tokenizers encode_batch (sample)": tokenizers, "datasets.map + group_texts (sample)": recipe}


def _usual_recipe(sample: Path, tokenizer: Path, out: Path, length: int = 64) -> int:
    """What training scripts commonly do: map a tokenizer, concatenate and cut into blocks, save to disk."""
    import datasets
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    datasets.disable_progress_bars()

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [one.ids for one in loaded.encode_batch(batch["text"], add_special_tokens=False)]}

    def group_texts(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = [id_ for ids in batch["input_ids"] for id_ in ids]
        blocks = [joined[at : at + length] for at in range(0, len(joined) // length * length, length)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    lines = [line for line in sample.read_text(encoding="utf-8").splitlines() if line]
    data = datasets.Dataset.from_dict({"text": lines})
    tokens = data.map(tokenize, batched=True, remove_columns=["text"])
    tokens.map(group_texts, batched=True).save_to_disk(str(out / "blocks"))
    return sum(len(ids) for ids in tokens["input_ids"])
