"""The Hugging Face hub, when it cannot be reached: known at once instead of after half a minute of retries."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlparse


def stay_offline_if_unreachable() -> None:
    """Let `huggingface_hub` and `datasets` use their local caches only, when the hub's name does not resolve."""
    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return  # a proxy resolves names that this machine does not know
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        constants.HF_HUB_OFFLINE = True
