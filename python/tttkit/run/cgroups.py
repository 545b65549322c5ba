"""The control groups of this process, which limit its cores and its memory, for example in a container. Linux only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def groups(controller: str, root: Path = ROOT, own: Path = OWN) -> Iterator[Path]:
    """Yield the directories of this process's groups with a controller, such as `cpu`, and of their parents.

    Both versions of control groups are covered. In a container, the process's own group may be the root of the tree
    although the kernel gives its path on the host, so a directory that is yielded may not exist.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            trees = [root, root / "unified"]
        elif controller in controllers.split(","):
            trees = [root / controllers, root / controller]
        else:
            continue
        for tree in trees:
            group = tree / path.lstrip("/")
            for each in (group, *group.parents):
                if not each.is_relative_to(tree):
                    break
                yield each
