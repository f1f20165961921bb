from pathlib import Path

import pytest

from errors import DatabaseAway
from sql import embedded


def test_a_folder_whose_path_has_a_space_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "My projects"
    with pytest.raises(DatabaseAway, match=r"My projects, whose path has a space.*DATA_DIR"):
        embedded.start(folder)
    assert not folder.exists(), "nothing is left behind"
