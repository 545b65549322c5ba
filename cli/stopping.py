"""Commands that take long and go on where they were: a signal stops them, with exit code 75."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tttkit.errors import PreemptedError
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit_cli.console import explain

_HINT = "run the same command again: it goes on from what is finished"


@contextmanager
def stoppable() -> Iterator[None]:
    """Raises PreemptedError when SIGTERM or SIGINT comes: files are written whole, so that any moment will do.

    A second signal leaves at once; so does the end of the grace period, in a long call that heeds no signal.
    """
    with StopSignals(interrupt=True) as signals:
        signals.last_words = lambda: explain(f"stopped by {signals.requested} in the middle of a long call", _HINT)
        try:
            yield
        except StopRequestedError as stop:
            raise PreemptedError(f"stopped by {stop}; what is finished is kept", hint=_HINT) from None
