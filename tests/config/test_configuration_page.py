"""docs/configuration.md is generated, and the committed page is current."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

from tttkit.config.fields import describe_fields
from tttkit.config.presets import PRESET_NAMES
from tttkit.config.run import build_config

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "configuration.md").read_text()


def test_the_page_is_current():
    generated = runpy.run_path(str(DOCS / "make_configuration.py"))["page"]()
    assert generated == PAGE, "run `make docs`"


def test_the_page_names_every_field_and_preset():
    for key in (*describe_fields(), "train.stages.share"):
        section, _, name = key.rpartition(".")
        if section:
            part = PAGE[PAGE.index(f"[{section}]") :]
            assert re.match(rf".*?^\| `{name}` \| ", part[: part.index("\n#")], re.M | re.S), key
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.M | re.S)
    assert len(blocks) == len(PRESET_NAMES)
    for block in blocks:
        build_config(tomllib.loads(block))
