"""Decoding speed by context length at 152.6M parameters: flat for TTT, beside the same-size Transformer.

python benchmarks/inference.py
"""

from __future__ import annotations

import sys

from tttkit_cli.app import main

sys.argv = ["tttkit", "bench", "inference", "--context", "256", "--context", "1024", "--context", "4096"]
main()
