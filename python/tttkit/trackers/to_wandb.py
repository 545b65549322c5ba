"""Export to Weights & Biases: one run there per run id.

Online, wandb says which step it holds last, and the steps after it are sent. Offline, each export writes the whole run
into a temporary directory and then puts it in the place of the earlier one, so the run is there once and complete.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tttkit.errors import TttkitError, UsageError
from tttkit.storage import files, filesystem
from tttkit.trackers.rows import Recorded, RunFacts


class WandbTracker:
    """Writes a run of wandb through its own client."""

    def __init__(self, directory: Path, facts: RunFacts, project: str, *, offline: bool) -> None:
        """Start or continue the run; local files go below `directory`.

        Raises UsageError if wandb is not installed, or has no API key and is not offline.
        """
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb
        except ImportError as error:
            raise UsageError("--to wandb needs the package wandb", hint="pip install 'tttkit[wandb]'") from error
        files.make_directory(directory)
        for leftover in directory.glob(f"{files.TEMPORARY_PREFIX}*"):
            files.remove_tree(leftover)
        self._directory, self._facts, self._offline = directory, facts, offline
        self._place = files.temporary_name(directory / "session") if offline else directory
        files.make_directory(self._place)
        settings = wandb.Settings(
            console="off", silent=True, x_disable_stats=True, x_disable_meta=True, disable_git=True, disable_code=True
        )
        try:
            self._run: Any = wandb.init(
                project=project, id=facts.run_id, name=facts.name, config=facts.config, dir=str(self._place),
                mode="offline" if offline else "online", resume=None if offline else "allow", settings=settings,
            )  # fmt: skip
        except wandb.errors.UsageError as error:
            hint = "log in with `wandb login`, or use --offline and send the run later with `wandb sync`"
            raise UsageError(f"wandb cannot start: {str(error).splitlines()[0]}", hint=hint) from error
        except wandb.Error as error:
            raise TttkitError(f"wandb cannot start: {error}", hint="use --offline, then `wandb sync`") from error
        # wandb ignores a step that is not above those it holds
        self._next_step = int(self._run.step)
        self._figures: dict[Path, int] = {}

    def write(self, recorded: Recorded) -> None:
        """Log the rows after the last one, and the figures that changed."""
        for row in recorded.final:
            if row.step >= self._next_step:
                self._run.log({**row.values, "_timestamp": row.time}, step=row.step)
                self._next_step = row.step + 1
        for path in recorded.figures:
            modified = path.stat().st_mtime_ns
            if self._figures.get(path) != modified:
                self._run.save(str(path), base_path=str(path.parent), policy="now")
                self._figures[path] = modified

    def close(self) -> None:
        """End the session; offline, put the run in its place and remove what earlier exports wrote."""
        self._run.finish()
        if not self._offline:
            return
        pattern = f"offline-run-*-{self._facts.run_id}"
        earlier = set(self._directory.glob(pattern))
        for session in (self._place / "wandb").glob(pattern):
            target = self._directory / session.name
            if target in earlier:  # two exports within a second
                files.remove_tree(target)
            filesystem.current.rename(session, target)
            earlier.discard(target)
        files.fsync_directory(self._directory)
        for path in (*earlier, self._place):
            files.remove_tree(path)
