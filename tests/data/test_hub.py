from __future__ import annotations

import socket

import pytest

from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.errors import UsageError

from .conftest import read

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture
def constants(monkeypatch):
    """Settings of `huggingface_hub` on a machine that resolves no host name and has no proxy."""
    from huggingface_hub import constants

    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return constants


def test_hub_name_without_a_network_is_one_clear_error(constants):
    with pytest.raises(UsageError, match="cannot load data set nobody/nothing") as caught:
        read("hf:nobody/nothing")
    assert "needs the network" in caught.value.hint
    assert constants.HF_HUB_OFFLINE


def test_a_hub_that_resolves_or_a_proxy_leaves_the_network_on(constants, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    stay_offline_if_unreachable()
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.delenv("https_proxy")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    stay_offline_if_unreachable()
    assert not constants.HF_HUB_OFFLINE
