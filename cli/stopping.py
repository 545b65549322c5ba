"""Stop long commands with exit code 75 on a signal. When repeated, they continue from their finished parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tttkit.errors import PreemptedError
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit_cli.console import explain

_HINT = "run the same command again: finished parts are not repeated"


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise PreemptedError on SIGTERM or SIGINT. Files are written atomically, so any moment is safe.

    A second signal exits at once, and so does the end of the grace period during a call that does not check signals.
    """
    with StopSignals(interrupt=True) as signals:
        signals.announce_exit = lambda: explain(f"stopped by {signals.requested} during a long call", _HINT)
        try:
            yield
        except StopRequestedError as stop:
            raise PreemptedError(f"stopped by {stop}; finished parts are kept", hint=_HINT) from None
