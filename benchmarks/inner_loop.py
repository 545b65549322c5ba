"""Print registers, stack and shared memory of the Triton kernels compiled for a Hopper GPU; no GPU is needed.

    python benchmarks/inner_loop.py [C d]...

A stack means that registers were spilled to memory. A kernel with more than 227 KB of shared memory cannot be launched.
To measure times, run `tttkit bench train` on a GPU.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tttkit.models.ttt_linear_op import BACKWARD_WARPS, OPTIONS, tiles
from tttkit.models.ttt_triton import backward_kernel, forward_kernel

SIZES = ((16, 64), (64, 64), (16, 96))
FLAGS = {
    "HAS_PENDING": False, "CLOSES": True, "KEEP": True, "HAS_GRAD_AFTER": False,
}  # fmt: skip


def compile_for_hopper(kernel, num_warps, **constants):
    """Compile the kernel for compute capability 9.0, as training launches it."""
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {name: value for name, value in constants.items() if name in names}
    scalars = {"eps": "fp32", "num_chunks": "i32", "num_programs": "i32"}
    signature = {name: "constexpr" if name in constants else scalars.get(name, "*fp32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name] == "*fp32"}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps, **OPTIONS})


def registers_and_stack(compiled):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    return [int(re.search(rf"{name}:(\d+)", usage.stdout)[1]) for name in ("REG", "STACK")]


arguments = [int(argument) for argument in sys.argv[1:]]
sizes = list(zip(arguments[::2], arguments[1::2], strict=True)) or SIZES
print(f"{'kernel':16} {'C':>4} {'d':>4} {'products':9} {'registers':>9} {'stack B':>8} {'shared KB':>9}")
for (size, head_dim), products in product(sizes, ("bf16", "tf32", "ieee")):
    for kernel, num_warps in ((forward_kernel, 4), (backward_kernel, BACKWARD_WARPS)):
        compiled = compile_for_hopper(
            kernel, num_warps, C=size, D=head_dim, **tiles(size, head_dim), **FLAGS, PRODUCTS=products
        )
        registers, stack = registers_and_stack(compiled)
        shared = compiled.metadata.shared / 1024
        row = f"{kernel.fn.__name__:16} {size:4} {head_dim:4} {products:9} {registers:9} {stack:8} {shared:9.1f}"
        print(row, flush=True)
