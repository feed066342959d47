import subprocess
import sys
from pathlib import Path

import pytest

from storage.single_writer import SqliteFileLock

TRY = """
import sys
from pathlib import Path
from storage.single_writer import SqliteFileLock
print(SqliteFileLock(Path(sys.argv[1])).acquire())
"""


def another_process_gets(path: Path) -> bool:
    answer = subprocess.run([sys.executable, "-c", TRY, path], check=True, capture_output=True, text=True)
    return answer.stdout.strip() == "True"


def test_one_process_has_a_file(tmp_path: Path) -> None:
    path = tmp_path / "quartermaster.db"
    with SqliteFileLock(path):
        assert not another_process_gets(path)
        assert not SqliteFileLock(path).acquire()
        assert SqliteFileLock(tmp_path / "other.db").acquire()
        with pytest.raises(BlockingIOError), SqliteFileLock(path):
            pass
    assert another_process_gets(path)


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "quartermaster.db"
    assert another_process_gets(path)
    assert SqliteFileLock(path).acquire()


def test_giving_back_what_is_not_held_is_no_error(tmp_path: Path) -> None:
    SqliteFileLock(tmp_path / "quartermaster.db").release()
