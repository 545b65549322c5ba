"""Name what to do with a cache of huggingface_hub whose files are not where a user points: `models--ORG--NAME`."""

from __future__ import annotations

from pathlib import Path

from tttkit.errors import DataError


def snapshot_hint(directory: Path) -> str | None:
    """Return a hint that names the newest snapshot of a cached repository; None if `directory` holds no snapshots."""
    root = directory.parent if directory.name == "snapshots" else directory
    try:
        snapshots = [path for path in (root / "snapshots").iterdir() if path.is_dir()]
        newest = max(snapshots, key=lambda path: path.stat().st_mtime_ns, default=None)
    except OSError:
        return None
    if newest is None:
        return None
    return f"this is a cache of the Hugging Face hub; name the snapshot in it: {newest}"


def refuse_broken_link(path: Path) -> None:
    """Raise DataError if `path` is a link to a file that does not exist, as an interrupted download leaves it."""
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link to a file that is missing ({path.readlink()})", hint="download or copy the file again"
        )
