"""The standard streams: nothing that happens to them ends a run or changes data."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from contextlib import suppress

import pytest
from rich.table import Table

from tests.cli.conftest import run_process, start, train_options, tttkit
from tttkit.run.directory import RunDirectory
from tttkit_cli import console
from tttkit_cli.console import SafeStream


def test_data_on_stdout_everything_else_on_stderr(trained):
    _, result = trained
    assert "unigram_ppl=" in result.out
    assert "steps 0 to 6" not in result.out
    assert "steps 0 to 6" in result.err
    assert "unigram_ppl=" not in result.err


def test_nothing_is_written_to_a_closed_pipe(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    stream = SafeStream("stdout")
    assert stream.write("text\n") == 5
    stream.flush()
    assert stream.broken
    pipe.close()  # would raise if the pipe were not replaced


def test_a_full_device_does_not_fail_a_command():
    with open("/dev/full", "w") as full:
        assert run_process("--version", stdout=full).code == 0


def test_characters_outside_the_encoding_become_question_marks(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    stream = SafeStream("stdout")
    stream.write("W = 64 · 1×W\n")
    stream.flush()
    assert raw.getvalue() == b"W = 64 ? 1?W\n"


@pytest.mark.parametrize("columns", ["1", "abc"])
def test_a_narrow_screen_truncates_no_number(finished, columns):
    result = run_process("status", finished, env={"COLUMNS": columns})
    assert result.code == 0
    figures = json.loads((finished / "all_summaries.json").read_text())[-1]
    assert f"{figures['ttt_ppl_at_20xW']:,.2f}" in result.out
    assert f"{figures['ratio_at_20xW']:.3f} [{figures['ratio_ci_low_at_20xW']:.3f}" in result.out


def test_a_table_that_fits_keeps_its_width(capsys):
    table = Table()
    table.add_column("figure")
    table.add_row("1" * 300)
    console.print_table(table)
    assert "1" * 300 in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["train", "--help"], ["status"]])
def test_an_ascii_terminal(finished, arguments):
    path = [finished] if arguments == ["status"] else []
    result = run_process(*arguments, *path, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert result.code == 0
    assert result.out.isascii()
    assert "Traceback" not in result.err


def test_no_escape_sequences_without_a_terminal(finished):
    assert "\x1b" not in run_process("status", finished, env={"FORCE_COLOR": "1", "TERM": "xterm"}).out


@pytest.mark.parametrize(
    ("variables", "sequence", "there"),
    [({"TERM": "xterm"}, "\x1b[32m", True), ({"TERM": "xterm", "NO_COLOR": "1"}, "\x1b[32m", False),
     ({"TERM": "dumb"}, "\x1b", False)],
)  # fmt: skip
def test_colour_on_a_terminal(finished, variables, sequence, there):
    code, text = on_terminal(["status", finished], {"NO_COLOR": "", **variables})
    assert code == 0
    assert "finished" in text
    assert (sequence in text) is there


def test_training_on_a_terminal_shows_a_bar_and_ends(tiny_data, tmp_path):
    """Rich replaces stderr by a proxy while a bar is active; writing through it must not recurse."""
    code, text = on_terminal(train_options(tiny_data, tmp_path / "run"), {"TERM": "xterm", "NO_COLOR": ""})
    assert code == 0
    assert "\r\x1b[2K" in text, "nothing was drawn twice"
    assert "steps 0 to 6" in text
    assert "unigram_ppl=" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is hidden"


def test_training_outlives_its_reader(tiny_data, tmp_path):
    """stdout is a pipe closed after one line, stderr was never open, and the terminal is ASCII."""
    options = {"stderr": None, "preexec_fn": lambda: os.close(2), "env": {"PYTHONIOENCODING": "ascii"}}
    with start(*train_options(tiny_data, tmp_path / "run", "--json"), **options) as process:
        assert json.loads(process.stdout.readline())["event"] == "plan"
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert RunDirectory(tmp_path / "run").read_metadata()["result"]["reason"] == "finished"


def test_output_does_not_reach_files_when_descriptors_are_closed(tiny_data):
    def close_all():
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    assert run_process("data", "inspect", tiny_data, preexec_fn=close_all, stdout=None, stderr=None).code == 0


def test_json_is_json_for_any_text(finished, tmp_path):
    odd = tmp_path / ":cat: [bold]"
    odd.symlink_to(finished)
    assert json.loads(tttkit("status", odd, "--json").out)["run"] == str(odd)


def on_terminal(arguments, variables, **options):
    """Run a command on a pseudo-terminal; return its exit code and everything that it showed."""
    ours, theirs = pty.openpty()
    shown = b""
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with start(*arguments, **streams, env=variables, start_new_session=True, **options) as process:
        os.close(theirs)
        with suppress(OSError):  # EIO once the other side is closed
            while part := os.read(ours, 65_536):
                shown += part
        os.close(ours)
        return process.wait(timeout=60), shown.decode()
