"""Start a training process whose run is watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

_TRAINER = """
import json, sys
from tests.training import train
from tttkit.errors import TttkitError
try:
    train(json.loads(sys.argv[1]), sys.argv[2], report=lambda event: print(event["event"], flush=True))
except TttkitError as error:
    sys.exit(error.exit_code)
"""


@pytest.fixture
def trainer():
    """`with trainer(values, out) as process` trains in a separate process, which is killed at the end."""

    @contextmanager
    def start(values, out):
        command = [sys.executable, "-c", _TRAINER, json.dumps(values), str(out)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                yield process
            finally:
                process.kill()

    return start
