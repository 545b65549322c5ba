from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

_TRAINER = """
import json, sys
from pathlib import Path
from tttkit.config.run import build_config
from tttkit.errors import TttkitError
from tttkit.train.start import train
try:
    config = build_config(json.loads(sys.argv[1]))
    train(config, Path(sys.argv[2]), report=lambda event: print(event.name, flush=True))
except TttkitError as error:
    sys.exit(error.exit_code)
"""


@pytest.fixture
def trainer():
    """`with trainer(values, out) as process`: a real training process, stopped at the end if it still runs."""

    @contextmanager
    def start(values, out):
        command = [sys.executable, "-c", _TRAINER, json.dumps(values), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return start
