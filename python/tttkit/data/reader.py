"""The rules by which sources are read, and what a reader carries with it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tttkit.data.account import Account
from tttkit.data.documents import RULES, compile_pattern
from tttkit.data.formats import AUTO, CONTENTS
from tttkit.data.text import Utf8Decoder
from tttkit.errors import UsageError

BadRecords = Literal["error", "skip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How sources are read and cut into documents."""

    documents: str = "file"
    """Rule that cuts text into documents: file, line, blank-line or wikitext."""
    document_pattern: str | None = None
    """A document starts at each line that matches this regular expression. Overrides the rule."""
    text_field: str | None = None
    """Field that holds the text of a record; None means `text`."""
    format: str = AUTO
    """What the sources hold: text, jsonl, json or parquet; `auto` tells it from the ending of each file."""
    bad_records: BadRecords = "error"
    """What to do about a record without text: `error` raises, `skip` leaves it out and counts it."""

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown rule, format or invalid pattern before anything is read."""
        if self.documents not in RULES:
            raise UsageError(f"unknown document rule `{self.documents}`", hint=f"rules: {', '.join(RULES)}")
        if self.format not in (AUTO, *CONTENTS):
            raise UsageError(f"unknown format `{self.format}`", hint=f"formats: {', '.join((AUTO, *CONTENTS))}")
        if self.bad_records not in ("error", "skip"):
            raise UsageError(f"bad_records must be error or skip, got `{self.bad_records}`")
        if self.document_pattern is not None:
            compile_pattern(self.document_pattern)

    @property
    def field(self) -> str:
        """Field that holds the text of a record."""
        return "text" if self.text_field is None else self.text_field

    @property
    def keeps_texts_whole(self) -> bool:
        """Whether each file or record is one document."""
        return self.documents == "file" and self.document_pattern is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """Everything that reading a source needs: the rules, a decoder, and an account of what was read and left out."""

    rules: Reading = dataclasses.field(default_factory=Reading)
    decoder: Utf8Decoder = dataclasses.field(default_factory=Utf8Decoder)
    account: Account = dataclasses.field(default_factory=Account)

    def restart(self) -> None:
        """Forget what was counted, before the sources are read again."""
        self.decoder.num_repaired = 0
        self.account.restart()
