"""Libraries that take only names in UTF-8 read files of any name."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from tttkit.storage import files


@pytest.mark.parametrize("name", ["plain", "小説 $", "caf\udce9\n"])
def test_a_file_of_any_name_is_read(tmp_path, name):
    path = tmp_path / name
    files.write_bytes(path, save({"x": np.arange(3)}))
    with files.utf8_name(path) as shown:
        shown.encode()
        assert load_file(shown)["x"].tolist() == [0, 1, 2]


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError), files.utf8_name(tmp_path / "\udce9"):
        pass
