"""Measure decoding speed by context length at 152.6M parameters, compared with a Transformer of the same size.

python benchmarks/inference.py
"""

from __future__ import annotations

import sys

from tttkit_cli.app import main

sys.argv = ["tttkit", "bench", "inference", "--context", "256", "--context", "1024", "--context", "4096"]
main()
