"""Sections of CURRICULUM_RESULTS.md about single models: why they hold up or not, and what they write."""

from __future__ import annotations

from tttkit.report.markdown_parts import bullets, table
from tttkit.results.diagnose import diagnoses_of
from tttkit.run.directory import RunDirectory


def model_sections(run: RunDirectory) -> str:
    """Return the tables of every diagnosis of the run's models; empty without one. Raises DataError."""
    parts = []
    for name, _, diagnosis in diagnoses_of(run.path):
        parts += [f"### {name}, n = {diagnosis.values.get('num_sequences')} texts", table(diagnosis.table_rows())]
        reasons = [f"Left out, {part.replace('_', ' ')}: {reason}." for part, reason in diagnosis.left_out.items()]
        parts.append(bullets(reasons) if reasons else "")
    return "\n\n".join(["## Why: state, memory, key tokens", *filter(None, parts)]) if parts else ""
