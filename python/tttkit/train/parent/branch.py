"""`--branch-from`: a new run that continues from a training checkpoint of another run, whose files stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttkit.config.layers import difference
from tttkit.config.run import build_config
from tttkit.run.directory import RunDirectory
from tttkit.run.parent import past_tokens
from tttkit.train.parent.source import checkpoint_at, source_of_checkpoint
from tttkit.train.parent.warm_start import compare_tokenizers

if TYPE_CHECKING:
    from tttkit.train.trainer import Trainer


def start_branch(trainer: Trainer, parent: dict[str, Any], data: Path) -> list[str]:
    """Restore the training checkpoint that `parent` names, and complete the record `parent`.

    The branch begins without evaluations and without a best model. Returns messages for the user. Raises DataError if
    there is no such training checkpoint or if the tokenizer is another one, CheckpointError if it does not fit.
    """
    run = RunDirectory(Path(parent["path"]))
    loaded = checkpoint_at(run, parent["step"])
    metadata = run.read_metadata()
    source = source_of_checkpoint(run, loaded)
    before, now = build_config(metadata["config"]).to_dict(), trainer.config.to_dict()
    changes = [line for line in difference(before, now) if not line.startswith("data.path:")]
    fingerprint = trainer.splits["train"].fingerprint
    tokenizer = None
    if metadata["data"]["fingerprint"] != fingerprint:
        tokenizer = compare_tokenizers(source, data)
        changes.append(f"data fingerprint: {metadata['data']['fingerprint'][:12]} -> {fingerprint[:12]}")
    trainer.state.adopt(loaded)
    parent |= {
        "run_id": metadata.get("run_id"), "weights_sha256": source.weights_sha256,
        "past_tokens": past_tokens(metadata), "changes": changes,
    }  # fmt: skip
    messages = [f"branches from {run.path} at step {loaded.step}"]
    messages += [f"differs from {run.path}: {line}" for line in changes]
    return messages + ([tokenizer] if tokenizer else [])
