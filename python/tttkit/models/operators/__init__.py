"""Sequence operators: how a memory learns and is read, without projections, norms and gates.

Each operator has a token-by-token form, `NAME_reference`, which reads like its formula, and the form that the layers
use, `NAME`, which processes chunks of tokens with matrix products. Both are differentiable in every input. Time comes
before heads: B batch, T tokens, H heads. An operator computes in float32 (float64 if an input is float64), regardless
of autocast, and returns its output in the dtype of the values and its state in the dtype of the computation. However
a text is cut into segments, passing the state on gives the result of one pass. Time is linear in T.
"""

from tttkit.models.operators.gated_delta_rule import gated_delta_rule, gated_delta_rule_reference
from tttkit.models.operators.lact import lact, lact_reference
from tttkit.models.operators.mamba2_ssd import mamba2_ssd, mamba2_ssd_reference
from tttkit.models.operators.rwkv7 import rwkv7, rwkv7_reference
from tttkit.models.operators.titans import titans, titans_reference

__all__ = [
    "gated_delta_rule",
    "gated_delta_rule_reference",
    "lact",
    "lact_reference",
    "mamba2_ssd",
    "mamba2_ssd_reference",
    "rwkv7",
    "rwkv7_reference",
    "titans",
    "titans_reference",
]
