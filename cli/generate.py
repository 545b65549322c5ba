"""`tttkit generate`: continue a text with a trained model and stream the text to the terminal."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttkit.errors import UsageError
from tttkit_cli.console import err, out, print_json, stdout_is_gone
from tttkit_cli.model_options import Device, Dtype, RemoteCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tttkit.infer.text import Continuation, TextTokenizer
    from tttkit.models.scoring import LoadedModel


def generate(
    path: Annotated[
        Path,
        typer.Argument(
            help="Model directory: of tttkit, official, or any Hugging Face causal model; hf:NAME\\[@REVISION]; "
            "or a run, whose best model is used.",
            metavar="MODEL",
        ),
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="Text to continue; may be repeated (default: stdin).", show_default=False),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens to draw per prompt.", min=1)] = 128,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits; 0 chooses the most likely token.", min=0)
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Draw only from the k most likely tokens.", min=1, show_default=False)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw only from the most likely tokens that together reach this probability.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Equal seeds give equal text (default: a random seed, which is reported).", show_default=False
        ),
    ] = None,
    stops: Annotated[
        list[str] | None,
        typer.Option("--stop", help="Stop before this text; may be repeated.", show_default=False),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, if MODEL has none.", show_default=False)] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    trust_remote_code: RemoteCode = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print prompts, texts and ids as JSON.")] = False,
) -> None:
    """Continue a text. The text goes to stdout, everything else to stderr; several prompts are decoded together.

    Examples: `tttkit generate runs/quick --prompt 'def main('` · `cat page.txt | tttkit generate runs/quick`
    """
    texts = prompts or [_read_stdin()]
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"--top-p must be above 0 and at most 1, got {top_p}")
    seed = secrets.randbits(31) if seed is None else seed
    model, known = _load(path, tokenizer, device, dtype, trust_remote_code=trust_remote_code)
    from tttkit.infer.sampling import Sampling
    from tttkit.infer.text import continue_texts

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    started = time.perf_counter()
    continuing = continue_texts(model, known, texts, sampling, max_tokens=max_tokens, stops=stops or [])
    results = _shown(continuing, _Show(len(texts), quiet=json_output))
    _report(path, results, sampling.seed, time.perf_counter() - started, as_json=json_output)


def _shown(continuing: Iterator[tuple[Continuation, str]], show: _Show) -> list[Continuation]:
    """Show pieces of text until all are drawn or stdout has no reader; return the continuations in order."""
    results: dict[int, Continuation] = {}
    for each, piece in continuing:
        results[each.row] = each
        show.piece(each, piece)
        if stdout_is_gone():
            break
    return [results[row] for row in sorted(results)]


def _read_stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no text to continue", hint="use --prompt TEXT, or write the text to stdin")
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _load(
    path: Path, tokenizer: str | None, device: str | None, dtype: str, *, trust_remote_code: bool
) -> tuple[LoadedModel, TextTokenizer]:
    """Load model and tokenizer onto a device, and say what was found about a foreign model."""
    from tttkit.device import find_device, prepare_cpu, prepare_device
    from tttkit.infer.loading import generator_directory, load_generator

    directory = generator_directory(path)
    prepare_cpu()
    device_name = find_device(device)
    prepare_device(device_name)
    model, known = load_generator(directory, tokenizer=tokenizer, dtype=dtype, trust_remote_code=trust_remote_code)
    if not model.can_carry:
        err.print(
            f"the {model.name} model has no cache that continues a text exactly, so every token reads the whole text",
            soft_wrap=True,
            markup=False,
        )
    model.to(device_name)
    return model, known


class _Show:
    """Streams the text of a single prompt; prints each of several texts when it is finished."""

    def __init__(self, num_prompts: int, *, quiet: bool) -> None:
        self._streams = num_prompts == 1
        self._quiet = quiet

    def piece(self, each: Continuation, piece: str) -> None:
        if self._quiet:
            return
        if self._streams:
            self._write(piece)
        if each.finish_reason is None:
            return
        if not self._streams:
            self._write(f"> {each.prompt}\n{each.text}\n")
        self._write("\n")

    def _write(self, text: str) -> None:
        """Write text as it is, not through Rich, which interprets markup; a terminal gets no control characters."""
        if out.is_terminal:
            text = "".join(character for character in text if character.isprintable() or character in "\n\t")
        out.file.write(text)
        out.file.flush()


def _report(path: Path, continuations: list[Continuation], seed: int, seconds: float, *, as_json: bool) -> None:
    num_tokens = sum(len(each.ids) for each in continuations)
    speed = num_tokens / seconds
    if not as_json:
        read = sum(len(each.prompt_ids) for each in continuations)
        err.print(
            f"[hint]{read} tokens read, {num_tokens} drawn in {seconds:.2f} s: {speed:,.1f} tokens/s, seed {seed}[/]",
            soft_wrap=True,
        )
        return
    results: list[dict[str, Any]] = [
        {
            "prompt": each.prompt,
            "text": each.text,
            "finish_reason": each.finish_reason,
            "num_prompt_tokens": len(each.prompt_ids),
            "ids": each.ids,
        }
        for each in continuations
    ]
    print_json(
        {
            "schema_version": 1,
            "model": str(path),
            "seed": seed,
            "seconds": seconds,
            "tokens_per_second": speed,
            "results": results,
        }
    )
