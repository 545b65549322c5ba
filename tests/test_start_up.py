"""What must be quick loads nothing heavy; `benchmarks/start_up.py` has the times."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "datasets", "pandas", "scipy", "tokenizers")


@pytest.mark.parametrize(
    "action",
    [
        "import tttkit",
        "import tttkit.data, tttkit.models, tttkit.evaluate",
        "from tttkit.models import ModelConfig",
        "from tttkit_cli.app import _run; _run(['--help'])",
        "from tttkit_cli.app import _run; _run(['train', '--help'])",
        "from tttkit_cli.app import _run; _run(['train', '--dry-run'])",
        "from tttkit_cli.app import _run; _run(['status', sys.argv[1]])",
    ],
)
def test_loads_nothing_heavy(action, tmp_path):
    (tmp_path / "all_summaries.json").write_text("[]")
    script = (
        f"import sys\n{action}\nprint('loaded:', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == "loaded:"
