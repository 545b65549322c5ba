"""Commands that take long and go on where they were: a signal stops them at a safe point, with exit code 75."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tttkit.errors import PreemptedError
from tttkit.train.signals import StopRequestedError, StopSignals

from .console import err

_HINT = "run the same command again: it goes on from what is finished"


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Gives what to call wherever the command may stop. Raises PreemptedError there after SIGTERM or SIGINT.

    A second signal leaves at once; so does the end of the grace period, in a long call that knows no such place.
    """
    with StopSignals() as signals:

        def say() -> None:
            err.print(f"[error]error:[/] stopped by {signals.requested} in the middle of a long call")
            err.print(f"[hint]hint:[/] {_HINT}")

        signals.before_leaving = say
        try:
            yield signals.poll
        except StopRequestedError as stop:
            raise PreemptedError(f"stopped by {stop}; what is finished is kept", hint=_HINT) from None
