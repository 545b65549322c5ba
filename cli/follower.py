"""The exporter that `tttkit train --track` starts beside the run. Whatever happens to it never affects the run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tttkit.errors import UsageError
from tttkit.run.directory import quoted
from tttkit.trackers.export import TRACKERS

_COMMAND = (sys.executable, "-c", "from tttkit_cli.app import main; main()")
_LAST_WRITE_SECONDS = 30.0
"""How long `train` waits at its end for the last write."""


def check_tracker(tracker: str) -> None:
    """Raise UsageError if a tracker is unknown or its package is not installed, before the training starts."""
    if tracker not in TRACKERS:
        raise UsageError(f"--track must be one of {', '.join(TRACKERS)}; got `{tracker}`")
    if tracker != "csv" and importlib.util.find_spec(tracker) is None:
        raise UsageError(f"--track {tracker} needs the package {tracker}", hint=f"pip install 'tttkit[{tracker}]'")


@contextmanager
def following(tracker: str | None, run: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Export a run to a tracker while this block runs, in a process of its own; `warn` once if that process fails."""
    if tracker is None:
        yield
        return
    command = [*_COMMAND, "export", str(run), "--to", tracker, "--from-train"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the training; this process ends after it
        )  # fmt: skip
    except OSError as error:
        warn(f"the export to {tracker} did not start: {error.strerror}")
        yield
        return
    watcher = threading.Thread(target=_watch, args=(process, tracker, run, warn), daemon=True, name="follower")
    watcher.start()
    try:
        yield
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()  # says that the training has ended
        watcher.join(_LAST_WRITE_SECONDS)
        if watcher.is_alive():
            warn(f"the export to {tracker} is still writing; it ends by itself")


def _watch(process: subprocess.Popen[bytes], tracker: str, run: Path, warn: Callable[[str], None]) -> None:
    """Read what the process says on stderr until it ends; warn with its error if it failed."""
    assert process.stderr is not None
    last = ""
    with process.stderr:
        for line in process.stderr:
            text = line.decode(errors="replace").strip()
            if text and not text.startswith("hint:"):
                last = text
    code = process.wait()
    if code != 0:
        why = last.removeprefix("error: ") or f"exit code {code}"
        warn(
            f"the export to {tracker} ended: {why}; training goes on, and "
            f"`tttkit export {quoted(run)} --to {tracker}` exports the whole run later"
        )
