from __future__ import annotations

import json
import os

import torch

from tttkit.train.logs.environment import changes, environment


def test_the_environment_names_everything_that_bits_depend_on_but_no_variable():
    os.environ["TTTKIT_TEST_SECRET"] = "swordfish"
    try:
        values = environment()
    finally:
        del os.environ["TTTKIT_TEST_SECRET"]
    assert "swordfish" not in json.dumps(values)
    assert (values["torch"], values["num_threads"]) == (torch.__version__, torch.get_num_threads())


def test_only_differences_that_may_change_bits_are_named():
    before = environment()
    assert changes(before, before) == []
    after = {**before, "num_threads": before["num_threads"] + 1, "host": "elsewhere", "git_commit": "0123"}
    assert changes(before, after) == [f"num_threads: {before['num_threads']} -> {before['num_threads'] + 1}"]
    assert changes({}, after) == [], "an older record may lack keys"
