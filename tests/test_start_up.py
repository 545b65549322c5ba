"""Commands that must be quick load nothing heavy; `benchmarks/start_up.py` measures the times."""

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
    (tmp_path / "metadata.json").write_text("{}")
    script = (
        f"import sys\n{action}\nprint('loaded:', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("arguments", ["'--help'", "'status', sys.argv[1]", "'status', '--interval=3', sys.argv[1]"])
def test_answers_without_the_other_verbs_and_pydantic(arguments, tmp_path):
    """Each of these modules takes longer to load than the answer takes."""
    (tmp_path / "metadata.json").write_text("{}")
    script = (
        f"import sys\nfrom tttkit_cli.app import _run\nassert _run([{arguments}]) == 0\n"
        "print('loaded:', *{'pydantic', 'tttkit_cli.train', 'tttkit_cli.eval'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == "loaded:"
