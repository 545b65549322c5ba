"""Detect at once that the Hugging Face hub cannot be reached, instead of after half a minute of retries."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlparse


def stay_offline_if_unreachable() -> None:
    """Make `huggingface_hub` and `datasets` use only their local caches if the hub's host name does not resolve."""
    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return  # a proxy resolves host names that this machine cannot
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        constants.HF_HUB_OFFLINE = True
