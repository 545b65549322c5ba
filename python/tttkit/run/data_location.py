"""Where the data of a run are. A run is a folder that may be renamed, moved, copied or mounted elsewhere. No torch.

The path of data inside the run is recorded relative to the run. Other data are looked for at the recorded path, then at
places that stand to the run as the recorded path did; the fingerprint decides which of them are the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, TttkitError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

OWN_DATA = "data"
"""Directory of a run with the data that the run prepared itself."""
_MANIFEST = "manifest.json"


def path_to_record(run: RunDirectory, data: Path) -> str:
    """Return the path of a DATA directory for metadata.json: relative to the run if it is inside the run."""
    place, inside = data.resolve(), run.path.resolve()
    return str(place.relative_to(inside)) if place.is_relative_to(inside) else str(data.absolute())


def find_data(run: RunDirectory, recorded: Mapping[str, Any]) -> Path:
    """Return the DATA directory of a run; `recorded` is the entry `data` of its metadata.json.

    It is the first place with the recorded fingerprint. If there is none, it is the recorded path, whose data have
    changed. Raises UsageError if there are no data either.
    """
    places = list(dict.fromkeys(_places(run, Path(recorded["path"]))))
    for place in places:
        if fingerprint_of(place) == recorded["fingerprint"]:
            return place
    if fingerprint_of(places[0]) is not None:
        return places[0]
    raise UsageError(
        f"the data of {run.path} are not at {places[0]}",
        hint="they were moved or removed; name them with --data DATA",
    )


def data_of_run(run: RunDirectory) -> Path | None:
    """Return the unchanged DATA directory of a run; None if the run recorded none.

    Raises UsageError if it is not found, DataError if it holds other data now.
    """
    recorded = run.read_metadata().get("data")
    if not isinstance(recorded, dict) or "path" not in recorded:
        return None
    path = find_data(run, recorded)
    found = fingerprint_of(path)
    if found != recorded["fingerprint"]:
        raise DataError(
            f"{path} no longer holds the data of {run.path}: its fingerprint was {recorded['fingerprint'][:12]} and is "
            f"{str(found)[:12]}",
            hint="restore the data, or name the data to use with --data DATA",
        )
    return path


def fingerprint_of(data: Path) -> str | None:
    """Return the fingerprint in the manifest of a DATA directory; None if it cannot be read."""
    try:
        value = files.read_json(data / _MANIFEST).get("fingerprint")
    except (TttkitError, AttributeError):
        return None
    return value if isinstance(value, str) else None


def _places(run: RunDirectory, recorded: Path) -> Iterator[Path]:
    """Yield the places where the data may be, the recorded one first.

    A run at /old/runs/r with data at /old/texts/d that is mounted under /new has its data at /new/texts/d, so every end
    of the recorded path is tried in every folder above the run, and in the current folder.
    """
    yield run.path / recorded
    yield run.path / OWN_DATA
    parts = recorded.parts[1:] if recorded.is_absolute() else recorded.parts
    for folder in (*run.path.absolute().parents, Path.cwd()):
        for first in range(len(parts)):
            yield folder.joinpath(*parts[first:])
