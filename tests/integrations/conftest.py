from __future__ import annotations

import json

import pytest

from tests.models.small import ARCHITECTURES, small_model
from tttkit.integrations.export import export_to_hugging_face
from tttkit.models import save_model
from tttkit.models.registry import SEQUENCE_LAYERS

COMBINED = ("linear-momentum", "sw-sinks", "sw-logit", "ttt-hybrid", "four-kinds", "ttt-parallel", "hybrid-parallel")
KINDS = {
    **{name: {"architecture": name} for name in SEQUENCE_LAYERS},
    **{name: ARCHITECTURES[name] for name in COMBINED},
}
"""Every architecture, and models with several kinds of layers, sinks or a window beside a memory."""
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def own_module_cache(tmp_path, monkeypatch):
    """Keep code that transformers copies for a model out of the user's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def export(tmp_path, tiny_data):
    """`export(**fields)` writes a small model with the tokenizer of the data and exports it: (ours, exported)."""

    def build(**fields):
        ours = tmp_path / "ours"
        save_model(small_model(vocab_size=300, **fields), ours, metadata={"window": 16, "eos_token_id": 0})
        (ours / "tokenizer.json").write_bytes((tiny_data / "tokenizer.json").read_bytes())
        assert json.loads((tiny_data / "manifest.json").read_text())["eos_id"] == 0
        export_to_hugging_face(ours, tmp_path / "exported")
        return ours, tmp_path / "exported"

    return build


def load(directory, **options):
    """Load an exported model as users do."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, **options).eval()
