"""What waits on the worker's disk for the database: whole, in order, bounded, and gone with the worker."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.spec.events import Step
from worker.spool import Spool

STEP = Step(time=1.5, step=3, metrics={"policy/loss": 0.25, "entropy/correct": None})


def test_events_and_lines_come_back_as_they_were(tmp_path):
    spool = Spool(tmp_path / "made", 1 << 20)
    said = ["a log line", STEP, "\N{SNOWMAN} and a\nline break", "", '{"type": "step"}', STEP]
    assert all(spool.put(each) for each in said[:4])
    back = [spool.get()[0] for _ in range(2)]
    assert all(spool.put(each) for each in said[4:])
    back += [spool.get()[0] for _ in range(4)]
    assert back == said
    assert spool.empty
    with pytest.raises(IndexError):
        spool.get()


def test_it_has_no_name_and_gives_the_disk_back(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    spool.put("x" * 1000)
    assert list(tmp_path.iterdir()) == []
    assert len(_open_in(tmp_path)) == 1
    spool.get()
    assert not _open_in(tmp_path)


def _open_in(folder):
    return [link for link in Path("/proc/self/fd").iterdir() if folder in _target(link).parents]


def _target(link):
    try:
        return link.readlink()
    except FileNotFoundError:  # the listing's own
        return Path()


def test_the_bound_counts_everything_written_since_it_was_empty(tmp_path):
    spool = Spool(tmp_path, 50)
    assert spool.put("a" * 20)
    assert not spool.put("b" * 20)
    spool.get()
    assert spool.put("c" * 20)
    assert spool.get()[0] == "c" * 20
    assert not Spool(tmp_path, 0).put("")


FULL_DISK = """
import resource, sys
from pathlib import Path
from worker.spool import Spool
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
spool = Spool(Path(sys.argv[1]), 1 << 30)
taken = [spool.put("x" * 300) for _ in range(6)]
print(taken, [spool.get()[1] for _ in range(sum(taken))], spool.put("again"))
"""


def test_a_disk_that_takes_no_more_loses_nothing_of_what_it_took(tmp_path):
    """The kernel itself cuts the fourth write short and refuses the rest, for root and for anybody else."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[True, True, True, False, False, False] [302, 302, 302] True"
    assert os.strerror(errno.EFBIG) in done.stderr
