"""Each rank's sign of life, and the search for the rank that is lost or hangs.

A thread of every rank writes its sign of life into the store of the process group. Rank 0 reads all of them, writes
them to `ranks.json` for `status`, and names a rank that gives none; the others watch rank 0. So a thousand ranks cost
a thousand small messages per second, not a million.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch.distributed.distributed_c10d import Store

from tttkit.errors import RankLostError
from tttkit.run import processes
from tttkit.run.ranks_file import RanksFile
from tttkit.run.world import World

BEAT_SECONDS = 1.0
_FILE_SECONDS = 5.0
_EVIDENCE_SECONDS = 4.0
"""How long to look for a rank that has ended, after a collective failed."""
_LOST = "lost"


class Watch:
    """Publishes the sign of life of this rank and watches the others, from `start` to `stop`."""

    def __init__(self, world: World, store: Store, *, timeout: float = 60.0) -> None:
        """Take a store that only this object uses, because a store serves one thread at a time."""
        self.timeout = timeout
        """Seconds without a sign of life after which a rank is lost."""
        self.file: RanksFile | None = None
        """Where rank 0 writes the state of all ranks; None before the run directory is locked."""
        self.on_lost: Callable[[str], None] | None = None
        """Called in the thread of the watch before the process exits because another rank hangs."""
        self._world = world
        self._store = store
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="ranks")
        self._main: dict[str, Any] = {}
        self.beat("starting", 0)
        self._identity = {"rank": world.rank, **processes.identity()}
        self._sequence = 0
        self._seen: dict[int, tuple[int, float]] = {}
        self._last_file = -_FILE_SECONDS
        self.publish()

    def start(self) -> None:
        """Start the thread, after all ranks have published a first sign of life."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join(2 * BEAT_SECONDS)

    def beat(self, phase: str, step: int, own_seconds: float | None = None) -> None:
        """Note what the main thread does; the thread of the watch publishes it.

        `own_seconds` is the time of an update before it waits for the other ranks.
        """
        self._main = {"phase": phase, "step": step, "own_seconds": own_seconds, "monotonic": time.monotonic()}

    def publish(self) -> None:
        """Write the sign of life of this rank into the store."""
        main, self._sequence = self._main, self._sequence + 1
        beat = {
            **self._identity,
            "sequence": self._sequence,
            "phase": main["phase"],
            "step": main["step"],
            "own_seconds": main["own_seconds"],
            "busy_seconds": time.monotonic() - main["monotonic"],
        }
        with self._lock:
            self._store.set(f"rank/{self._world.rank}", json.dumps(beat))

    def leave(self, message: str, exit_code: int) -> None:
        """Tell the other ranks that this one ends because of an error."""
        with suppress(RuntimeError), self._lock:
            self._store.set(f"ended/{self._world.rank}", json.dumps({"message": message, "exit_code": exit_code}))
            self._store.add("num_ended", 1)

    def ended_ranks(self) -> str | None:
        """Return which ranks have ended by an error of their own, and why; None if none has."""
        with self._lock:
            if not self._store.add("num_ended", 0):
                return None
            keys = {rank: f"ended/{rank}" for rank in range(self._world.size) if rank != self._world.rank}
            ended = {rank: json.loads(self._store.get(key)) for rank, key in keys.items() if self._store.check([key])}
        texts = [f"rank {rank} ended: {each['message']}" for rank, each in ended.items()]
        return "; ".join(texts) or None

    def find_lost(self) -> str | None:
        """Return which rank has ended or gives no sign of life, after a collective failed; None if all are alive."""
        deadline = time.monotonic() + _EVIDENCE_SECONDS
        first: dict[int, int] = {}
        try:
            while time.monotonic() < deadline:
                if (ended := self.ended_ranks()) is not None:
                    return ended
                beats = self._beats(range(self._world.size))
                first = first or {rank: beat["sequence"] for rank, beat in beats.items()}
                dead = [beat for beat in beats.values() if _is_dead(beat)]
                if dead:
                    return "; ".join(f"{_name(beat)} was killed at step {beat['step']}" for beat in dead)
                time.sleep(0.2)
            silent = [beat for rank, beat in beats.items() if beat["sequence"] == first[rank]]
        except RuntimeError:
            return "the store of the process group is gone: rank 0 or its torchrun was killed"
        silent = [beat for beat in silent if beat["rank"] != self._world.rank]
        return "; ".join(f"{_name(beat)} gives no sign of life since step {beat['step']}" for beat in silent) or None

    def _watch(self) -> None:
        interval = min(BEAT_SECONDS, self.timeout / 5)
        while not self._stopped.wait(interval):
            try:
                self.publish()
                lost = self._look()
            except RuntimeError:  # the store is gone, so the next collective fails and says why
                continue
            if lost is not None and not self._stopped.is_set():
                self._exit(lost)

    def _look(self) -> str | None:
        """Return the message that names a hanging rank. Rank 0 looks at all ranks, the others at rank 0."""
        with self._lock:
            if not self._world.is_first and self._store.check([_LOST]):
                return str(self._store.get(_LOST).decode())
        beats = self._beats(range(self._world.size) if self._world.is_first else (0,))
        now, ages = time.monotonic(), {}
        for rank, beat in beats.items():
            sequence, since = self._seen.get(rank, (-1, now))
            self._seen[rank] = (sequence, since) if beat["sequence"] == sequence else (beat["sequence"], now)
            ages[rank] = now - self._seen[rank][1]
        late = [rank for rank, age in ages.items() if age > self.timeout and rank != self._world.rank]
        lost = None
        if late:
            what = "; ".join(f"{_name(beats[rank])} at step {beats[rank]['step']}" for rank in late)
            lost = f"no sign of life for {self.timeout:g} s from {what}"
        if self._world.is_first:
            self._write(beats, ages, lost)
            if lost is not None:
                with self._lock:
                    self._store.set(_LOST, lost)
        return lost

    def note_lost(self, message: str) -> None:
        """Write ranks.json with the message about a lost rank, if this is rank 0."""
        with suppress(RuntimeError):
            self._write(self._beats(range(self._world.size)), {}, message)

    def _write(self, beats: dict[int, dict[str, Any]], ages: dict[int, float], lost: str | None) -> None:
        """Write ranks.json every few seconds, and at once if a rank is lost."""
        if self.file is None or (lost is None and time.monotonic() - self._last_file < _FILE_SECONDS):
            return
        self._last_file = time.monotonic()
        ranks = [{**beats[rank], "age_seconds": round(ages.get(rank, 0.0), 3)} for rank in sorted(beats)]
        with suppress(OSError):  # a full disk must not end the run
            self.file.write(ranks, lost=lost, timeout=self.timeout)

    def _exit(self, message: str) -> None:
        """End this process, whose main thread may wait in a collective for ever."""
        thread = threading.Thread(target=self._announce, args=(message,), daemon=True)
        thread.start()
        thread.join(3.0)
        os._exit(RankLostError.exit_code)

    def _announce(self, message: str) -> None:
        with suppress(Exception):  # the process ends with its exit code, whether it could tell why or not
            if self.on_lost is not None:
                self.on_lost(message)

    def _beats(self, ranks: Any) -> dict[int, dict[str, Any]]:
        with self._lock:
            texts = self._store.multi_get([f"rank/{rank}" for rank in ranks])
        return {rank: json.loads(text) for rank, text in zip(ranks, texts, strict=True)}


def _is_dead(beat: dict[str, Any]) -> bool:
    """Return whether a rank of this machine has ended; of another machine nothing is known."""
    return processes.is_same_boot(beat) and not processes.is_elsewhere(beat) and not processes.is_alive(beat["pid"])


def _name(beat: dict[str, Any]) -> str:
    return f"rank {beat['rank']} (host {beat['host']}, pid {beat['pid']})"
