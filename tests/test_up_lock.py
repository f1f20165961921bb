import subprocess
import sys
from pathlib import Path

import pytest

from commands import up_lock
from commands.up_lock import turn
from errors import OperatorError

CHILD = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_one_has_the_turn_and_gives_it_back_when_its_children_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up_lock, "WAIT", 0.3)
    told: list[str] = []
    with turn(tmp_path, told.append) as first:
        with pytest.raises(OperatorError, match="up already"), turn(tmp_path, told.append):
            pass
        assert told == []
        child = subprocess.Popen(CHILD, stdin=subprocess.PIPE, pass_fds=[first.handed_on])
        first.is_over()
        with pytest.raises(OperatorError, match=rf"kill .*\b{child.pid}\b"), turn(tmp_path, told.append):
            pass
        assert len(told) == 1
    with child:
        with pytest.raises(OperatorError, match=rf"kill {child.pid}\.$"), turn(tmp_path, told.append):
            pass
        child.communicate()
    with turn(tmp_path, told.append):
        assert len(told) == 2
