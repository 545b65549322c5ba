"""`tttkit recall`: measure what models remember of what they have read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tttkit.errors import UsageError
from tttkit.results.recall import SECOND_COPY
from tttkit_cli import recall_options as options
from tttkit_cli.model_options import (
    Bos,
    Data,
    Device,
    Dtype,
    Json,
    Models,
    RemoteCode,
    Split,
    Texts,
    Window,
    output_option,
)
from tttkit_cli.recall_models import measure_models, show_recall
from tttkit_cli.stopping import stoppable


def recall(
    paths: Models,
    task: options.TaskName = SECOND_COPY,
    data: Data = None,
    texts: Texts = None,
    split: Split = "validation",
    window: Window = None,
    distances: options.Distances = None,
    lengths: options.Lengths = None,
    sizes: options.Items = None,
    contexts: options.Contexts = None,
    num_examples: options.Examples = 64,
    seed: options.Seed = 0,
    output: Annotated[Path | None, output_option("recall_MODEL beside it")] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    bos: Bos = "auto",
    trust_remote_code: RemoteCode = False,
    json_output: Json = False,
) -> None:
    """Measure whether models know what they have read before, by the tokens in between.

    Writes recall.json for each model, and one figure, recall.png.

    Examples: `tttkit recall runs/ttt/best_model runs/sw/best_model --num-examples 128` ·
    `tttkit recall runs/mqar/final_model --task mqar`
    """
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.recall.directory import RecallSettings

    if texts and (data is not None or split != "validation"):
        raise UsageError("--text takes the place of --data and --split", hint="name one of them")
    settings = RecallSettings(
        task=task, distances=tuple(distances or ()), lengths=tuple(lengths or ()), sizes=tuple(sizes or ()),
        contexts=tuple(contexts or ("full",)), num_examples=num_examples, seed=seed,
    )  # fmt: skip
    requests = [
        EvaluationRequest(
            path=path, data=data, split=split, window=window, device=device, dtype=dtype, bos=bos,
            trust_remote_code=trust_remote_code,
        )
        for path in paths
    ]  # fmt: skip
    with stoppable():
        results = measure_models(requests, settings, output=output, texts=texts or [])
    show_recall(results, json_output=json_output)
