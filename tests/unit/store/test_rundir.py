"""Where the sockets lie: short enough for the kernel, closed to others, and the same every time."""

import os
import stat

import pytest

from store.embedded.rundir import run_dir


@pytest.fixture
def made():
    folders = []
    yield folders
    for folder in folders:
        folder.rmdir()


@pytest.mark.parametrize("name", ["short", "x" * 120, "with, comma", "ü" * 60])
def test_the_folder_suits_a_socket(tmp_path, made, name):
    home = tmp_path / name
    home.mkdir()
    folder = run_dir(home)
    made.append(folder)
    assert len(os.fsencode(folder / "postgres/.s.PGSQL.5432")) <= 107
    assert "," not in str(folder), "libpq takes a comma for the end of a host"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert run_dir(home) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_in_the_way_is_not_trusted(tmp_path):
    home = tmp_path / "h"
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        run_dir(home)
