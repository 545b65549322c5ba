"""Promise: an odd value gets one line and the right exit code, and every reader takes what a writer writes.

The options are taken from the tree of commands and the fields from the configuration, so new ones are covered.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.cli.conftest import Result, train_options, tttkit
from tttkit.config.fields import describe_fields
from tttkit.config.layers import Choices, collect_layers, merge_layers
from tttkit.config.run import build_config
from tttkit.device import find_device
from tttkit.errors import DeviceMemoryError, UsageError
from tttkit_cli.verbs import VERBS, load

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run_0_1_0"
EXIT_CODES = {2, 3, 4, 5, 6, 7, 65, 73, 75}
ODD = ("nan", "inf", "-inf", "-1", "0", "1e30", str(10**18), str(10**30), "", "x" * 5000, "tpu")
"""Values that every option and field is given."""
WRITTEN = (None, "NaN", "Infinity", "-Infinity", 0.0, 1e308, 5e-324)
"""Values that writers write for a float: null for what was not computed, and names for what JSON cannot spell."""


def options() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every command with every option of it that takes a value."""
    for name in VERBS:
        command = load(name)
        for words, each in [((name,), command), *(((name, n), c) for n, c in getattr(command, "commands", {}).items())]:
            for parameter in each.params:
                if parameter.param_type_name == "option" and not parameter.is_flag:
                    yield words, max(parameter.opts, key=len)


def is_one_line(result: Result) -> bool:
    """Whether an error is one line, with at most one hint, and blames the input."""
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and "bug in tttkit" not in result.err and result.code in EXIT_CODES


def arguments_without_files(words: tuple[str, ...]) -> list[str]:
    """Return the arguments that a command requires; the files do not exist, so that no accepted value starts work."""
    return {
        ("config", "show"): [],
        ("train",): ["--data", "missing"],
        ("bench", "train"): ["--precision", "missing"],
        ("bench", "data"): ["missing", "--tokenizer", "missing"],
        ("data", "prepare"): ["missing", "--tokenizer", "missing", "--out", "new"],
        ("compare",): ["missing", "missing"],
        ("convert",): ["missing", "new"],
        ("generate",): ["missing", "--prompt", "a"],
    }.get(words, ["missing"])


@pytest.mark.parametrize(("words", "option"), list(options()), ids=lambda value: "".join(value))
def test_an_option_with_an_odd_value_is_refused_in_one_line(words, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for value in ODD:
        result = tttkit(*words, *arguments_without_files(words), f"{option}={value}")
        assert result.code == 0 or is_one_line(result), (value[:30], result.code, result.err[-500:])


@pytest.mark.parametrize("key", list(describe_fields()))
def test_a_field_with_an_odd_value_is_refused_in_one_line_or_finite(key):
    messages = []
    for value in ODD:
        choices = Choices(assignments=(f"{key}={value}",), environment={})
        try:
            config = build_config(merge_layers(collect_layers(choices)))
        except UsageError as error:
            messages.append(str(error))
            continue
        json.dumps(config.to_dict(), allow_nan=False)
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    "assignment",
    [
        f"model.hidden_size={2**30}", f"model.intermediate_size={2**31}", f"train.batch_size={2**31}",
        f"train.grad_accumulation={2**31}",
    ],
)  # fmt: skip
def test_sizes_that_cannot_fit_in_memory_are_refused_before_they_are_made(tiny_data, tmp_path, assignment):
    result = tttkit(*train_options(tiny_data, tmp_path / "run"), "--set=model.hidden_size=4096", "--set", assignment)
    assert result.code == DeviceMemoryError.exit_code
    assert is_one_line(result)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["", "tpu", "meta", "mps", "xpu", "cuda:-1", "cuda:99", "cuda:x", "gpu", "x" * 300])
def test_only_a_device_that_exists_is_accepted(name):
    with pytest.raises(UsageError, match="device"):
        find_device(name)


def replaced(values: Any, new: Callable[[], Any]) -> Any:
    """Return JSON values in which `new()` stands for each float; it may return the Ellipsis to keep one."""
    if isinstance(values, dict):
        return {key: replaced(value, new) for key, value in values.items()}
    if isinstance(values, list):
        return [replaced(value, new) for value in values]
    value = new() if isinstance(values, float) else ...
    return values if value is ... else value


def damage(run: Path, new: Callable[[], Any]) -> None:
    """Replace floats in every file of a run that a reader reads."""
    for file in run.rglob("*.json"):
        file.write_text(json.dumps(replaced(json.loads(file.read_text()), new)))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(replaced(json.loads(line), new))}\n" for line in lines))
    for file in run.rglob("chunk_nll.safetensors"):
        arrays = load_file(file)
        for name, array in arrays.items():
            if array.dtype == np.float32:
                flat = [replaced(value, new) for value in array.ravel().tolist()]
                with np.errstate(over="ignore"):
                    arrays[name] = np.array([_number(value) for value in flat]).astype(np.float32).reshape(array.shape)
        save_file(arrays, file)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


READERS = (["status"], ["status", "--json"], ["report", "--json"], ["doctor"], ["compare", str(GOLDEN)])
FIGURES = (["plot"], ["report"])


def read(run: Path, readers: Any) -> None:
    """Run readers on a run; `doctor` may find a problem, and none may call a value a bug."""
    for words in readers:
        out = [] if words[0] in ("status", "doctor", "compare") or "--json" in words else ["--out", run.parent / "out"]
        result = tttkit(words[0], run, *words[1:], *out)
        assert result.code == 0 or (words == ["doctor"] and result.code == 65), (words, result.err[-500:])


@pytest.mark.parametrize("value", WRITTEN, ids=str)
def test_every_reader_takes_a_value_that_a_writer_writes_in_every_field(tmp_path, value):
    run = shutil.copytree(GOLDEN, tmp_path / "run")
    damage(run, lambda: value)
    read(run, (*READERS, *FIGURES))


@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.2, 0.6]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_reader_takes_any_mixture_of_such_values(tmp_path_factory, seed, share):
    generator = np.random.default_rng(seed)
    run = shutil.copytree(GOLDEN, tmp_path_factory.mktemp("mixture") / "run")
    damage(run, lambda: WRITTEN[generator.integers(len(WRITTEN))] if generator.random() < share else ...)
    read(run, READERS)
