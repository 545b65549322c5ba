from __future__ import annotations

import os

import pytest

from tttkit.data.fresh_process import timed
from tttkit.errors import DataError

BUSY = """
import time

end = time.process_time() + 0.5
while time.process_time() < end:
    pass
"""


def fail():
    raise DataError("no text", hint="name some")


def test_the_function_runs_in_a_new_process():
    assert timed(os.getpid, "os").result != os.getpid()


def test_imports_are_not_timed(tmp_path, monkeypatch):
    (tmp_path / "busy_module.py").write_text(BUSY)
    monkeypatch.syspath_prepend(tmp_path)
    assert timed(os.getpid, "busy_module").cpu_seconds < 0.25


def test_errors_keep_their_hint():
    with pytest.raises(DataError, match="no text") as caught:
        timed(fail, "os")
    assert caught.value.hint == "name some"
