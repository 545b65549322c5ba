"""Sections of the Markdown report about how a run was made: environment, protocol, commands."""

from __future__ import annotations

import shlex
from pathlib import Path

from tttkit.analyze.compare import Comparison
from tttkit.analyze.record import Record
from tttkit.report.markdown_parts import table
from tttkit.run.directory import quoted

_PROTOCOL = (
    "training_window", "eval_max_length", "chunk_size", "chunk_stride", "num_sequences", "sequence_choice",
    "num_documents", "tokens_per_chunk", "selection_windows", "aggregate", "sw_mode", "data_fingerprint",
)  # fmt: skip
"""Keys of summary.json that say how the run was evaluated."""


_REPEATED = ("path", "fingerprint")
"""Entries of the data that differ between equal runs or are in the summary too."""


_HIDDEN = ("host", "boot_id")
"""Entries of the environment that have no influence on the result."""


def environment_section(record: Record) -> str:
    """Return the table of machine and versions."""
    environment = record.metadata.get("environment")
    if not isinstance(environment, dict):
        return "Not recorded."
    return table({"item": key, "value": value} for key, value in environment.items() if key not in _HIDDEN)


def protocol_section(record: Record) -> str:
    """Return the table of what the last evaluation measured, and on which data."""
    summary = record.evaluations[-1].summary
    rows = [{"setting": name, "value": summary.get(name)} for name in _PROTOCOL]
    data = record.metadata.get("data")
    if isinstance(data, dict):
        rows += [{"setting": f"data {key}", "value": value} for key, value in data.items() if key not in _REPEATED]
    unigram = record.metadata.get("result", {}).get("unigram_ppl")
    if unigram is not None:
        rows.append({"setting": "unigram perplexity of the split", "value": unigram})
    settings = record.config or {
        "settings": {key: value for key, value in record.metadata.items() if not isinstance(value, list | dict)}
    }
    sections = [
        {"section": section, "values": ", ".join(f"{key} = {value}" for key, value in values.items())}
        for section, values in settings.items()
        if isinstance(values, dict)
    ]
    return table(rows) + "\n\n" + table(sections)


def commands_section(record: Record, comparison: Comparison | None) -> str:
    """Return the commands that made the run and this report."""
    command = record.metadata.get("command")
    lines = []
    if isinstance(command, list) and command:
        lines.append(shlex.join(str(part) for part in command))
    name = quoted(Path(record.name))
    others = "" if comparison is None else "".join(f" --against {shlex.quote(other)}" for other in comparison.runs[1:])
    lines += [f"tttkit eval run {name}", f"tttkit plot {name}", f"tttkit report {name}{others}"]
    if record.is_legacy:
        # The earlier system kept no weights that could be evaluated again.
        lines = lines[-2:]
    return "```\n" + "\n".join(lines) + "\n```"
