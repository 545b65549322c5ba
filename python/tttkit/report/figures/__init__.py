"""Figures. matplotlib's remarks about its own cache and settings are silenced: the figures depend on neither."""

import logging

_log = logging.getLogger("matplotlib")
if _log.level == logging.NOTSET:
    _log.setLevel(logging.ERROR)
