"""Compare training speed with a Transformer of the same size and, if its path is given, with the official code.

    python benchmarks/training.py [PATH_OF_THE_OFFICIAL_CODE]

The goal is 1.15 x the official implementation, forward and backward, at 152.6M parameters and 8 x 64 tokens on a CPU.
"""

from __future__ import annotations

import sys

from tttkit_cli.app import main

official = ["--official", sys.argv[1]] if len(sys.argv) > 1 else []
sys.argv = ["tttkit", "bench", "train", "--preset", "curriculum-100k", "--batch-size", "8", "--window", "64", *official]
main()
