"""Measure how fast tttkit and the installed peers turn the user's own files into tokens on this machine.

Every round runs all engines in turn, each in a new process: it loads its tokenizer, its caches are cold, and its memory
is not yet mapped, as in the first call of a user. Imports are not timed. A figure is the median over rounds, and a
ratio is the median of the ratios within each round. CPU time is summed over all threads, so it is a fair comparison
even if other processes use the machine.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tttkit.data.formats import TEXT, format_of
from tttkit.data.fresh_process import Timed, timed
from tttkit.data.peers import PEERS
from tttkit.data.prepare import prepare_dataset
from tttkit.data.sources import Files, parse_source
from tttkit.data.tokenizer import load_tokenizer
from tttkit.errors import UsageError
from tttkit.storage import files

SAMPLE_BYTES = 2 << 20
"""Size of the sample for slow peers, which would take minutes for the text that others encode in a second."""
_OUT = "data"
"""Name of the directory that `data prepare` writes."""
_SIMD = ("avx512", "avx2", "scalar")
_SIMD_VARIABLE = "TTTKIT_SIMD"
_FEATURES = ("avx2", "avx512f", "avx512bw", "avx512_vbmi", "asimd")


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
    first_is: float
    """Speed of the first engine divided by the speed of this one, by wall time; median over rounds."""
    first_is_by_cpu: float
    """The same ratio by CPU time."""


def machine() -> dict[str, Any]:
    """Describe this machine: the processor, its vector instructions and the number of cores."""
    lines: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else []:
        name, _, value = line.partition(":")
        lines.setdefault(name.strip(), value.strip())
    flags = lines.get("flags", lines.get("Features", "")).split()
    return {
        "processor": lines.get("model name", platform.machine()),
        "features": [feature for feature in _FEATURES if feature in flags],
        "num_cores": os.cpu_count(),
    }


def text_files(sources: Iterable[str]) -> list[Path]:
    """Return the files of the sources, all plain text that every engine can read. Raises UsageError."""
    paths: list[Path] = []
    for source in map(parse_source, sources):
        if not isinstance(source, Files):
            raise UsageError(f"`{source.text}` cannot be measured", hint="name files, directories, globs or stdlib")
        paths += source.files()
    for path in paths:
        format_ = format_of(path)
        if format_.compression or format_.content not in (TEXT, None):
            raise UsageError(f"{path} is not plain text", hint="peers read plain text only: unpack it first")
    if sum(path.stat().st_size for path in paths) == 0:
        raise UsageError(f"no text in {', '.join(map(str, paths))}")
    return paths


def missing_peers() -> list[str]:
    """Return the packages of peers that are not installed."""
    return [peer.package for peer in PEERS if not peer.is_installed]


def measure_preparation(
    paths: Sequence[Path],
    tokenizer: Path,
    *,
    threads: Sequence[int] = (1,),
    rounds: int = 3,
    every_simd: bool = False,
) -> list[Measurement]:
    """Time `data prepare` on `paths` with each number of threads, and every installed peer, once per round.

    With `every_simd` also time it on one thread with each set of vector instructions. Raises UsageError or DataError
    for a tokenizer or text that cannot be used.
    """
    num_bytes = sum(path.stat().st_size for path in paths)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sample = _sample(paths, root / "sample.txt")
        engines = [
            _Engine(
                f"tttkit data prepare, {count} thread{'s' * (count > 1)}",
                num_bytes,
                partial(_prepare, paths, tokenizer, root, count),
            )
            for count in threads
        ]
        engines += [
            _Engine(
                f"tttkit data prepare, 1 thread, {simd}", num_bytes, partial(_prepare, paths, tokenizer, root, 1, simd)
            )
            for simd in (_simd_names(tokenizer) if every_simd else ())
        ]
        for peer in PEERS:
            if not (peer.is_installed and peer.supports(tokenizer)):
                continue
            name = peer.name if peer.is_fast else f"{peer.name} (sample)"
            texts = paths if peer.is_fast else [sample]
            size = num_bytes if peer.is_fast else sample.stat().st_size
            engines.append(_Engine(name, size, partial(peer.engine, texts, tokenizer), peer.package))
        return _run(engines, rounds, root / _OUT)


@dataclasses.dataclass(frozen=True)
class _Engine:
    """What is timed: a function that returns a number of tokens."""

    name: str
    num_bytes: int
    run: Callable[[], int]
    package: str = "tttkit.data.prepare"
    """What it imports."""


@contextmanager
def _simd_set(simd: str | None) -> Iterator[None]:
    """Make tokenizers that are loaded in this context use these instructions. None changes nothing."""
    before = os.environ.get(_SIMD_VARIABLE)
    if simd is not None:
        os.environ[_SIMD_VARIABLE] = simd
    try:
        yield
    finally:
        if simd is not None:
            os.environ.pop(_SIMD_VARIABLE)
        if before is not None:
            os.environ[_SIMD_VARIABLE] = before


def _simd_names(tokenizer: Path) -> list[str]:
    """Return the sets of instructions that this processor has and the tokenizer can use."""
    names = []
    for name in _SIMD if load_tokenizer(str(tokenizer)).encoder.is_byte_level_bpe else ():
        with _simd_set(name), suppress(ValueError):
            names.append(load_tokenizer(str(tokenizer)).encoder.simd)
    return names


def _run(engines: Sequence[_Engine], rounds: int, out: Path) -> list[Measurement]:
    """Time the engines in turn. They may write to the directory `out`."""
    times: dict[str, list[Timed]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            times[engine.name].append(timed(engine.run, engine.package))
            # Here its time does not count. If it failed, the next call would find a data set and do nothing, very fast.
            files.remove_tree(out)
    first = engines[0]
    return [
        Measurement(
            engine=engine.name,
            num_bytes=engine.num_bytes,
            num_tokens=times[engine.name][-1].result,
            seconds=statistics.median(one.seconds for one in times[engine.name]),
            cpu_seconds=statistics.median(one.cpu_seconds for one in times[engine.name]),
            first_is=_ratio(times, engine, first, lambda one: one.seconds),
            first_is_by_cpu=_ratio(times, engine, first, lambda one: one.cpu_seconds),
        )
        for engine in engines
    ]


def _ratio(times: dict[str, list[Timed]], engine: _Engine, first: _Engine, time_of: Callable[[Timed], float]) -> float:
    """Return the speed of `first` divided by that of `engine`, the median over the rounds."""
    pairs = zip(times[engine.name], times[first.name], strict=True)
    ratio = statistics.median(time_of(one) / time_of(other) for one, other in pairs)
    return ratio * first.num_bytes / engine.num_bytes


def _sample(paths: Sequence[Path], target: Path) -> Path:
    data = b""
    for path in paths:
        with path.open("rb") as file:
            data += file.read(SAMPLE_BYTES - len(data))
        if len(data) >= SAMPLE_BYTES:
            break
    files.write_text(target, data.decode("utf-8", errors="ignore"))
    return target


def _prepare(paths: Sequence[Path], tokenizer: Path, root: Path, threads: int, simd: str | None = None) -> int:
    with _simd_set(simd):
        manifest = prepare_dataset(
            [str(path) for path in paths], root / _OUT, str(tokenizer), validation_fraction=0, threads=threads
        )
    return manifest.splits["train"].num_tokens
