"""Models on the Hugging Face hub: `hf:NAME[@REVISION]`."""

from __future__ import annotations

from pathlib import Path

from tttkit.errors import UsageError

_FILES = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.py", "*.jinja"]


def download(name: str) -> Path:
    """Return the directory of the model NAME[@REVISION], from the hub or, without a network, from the local cache.

    Raises UsageError that names the folder of the cache.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, revision = name.partition("@")
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=_FILES)
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        raise UsageError(
            f"cannot load `hf:{name}` from the hub: {type(error).__name__}; the local cache {constants.HF_HUB_CACHE} "
            "does not hold it",
            hint="download it where there is a network, and name its directory",
        ) from error
    return Path(found)
