"""What a run on a CPU does to hold less memory, counted by the allocator itself."""

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys
import torch
from trainer.memory import hold_little

class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Counts
# glibc takes the largest freed block for what is to be kept from then on.
torch.empty(16 << 20, dtype=torch.uint8)
if sys.argv[1:]:
    hold_little(torch.device(sys.argv[1]))
before = mallinfo2().hblks
kept = [torch.empty(1 << 20, dtype=torch.uint8) for _ in range(8)]
print(mallinfo2().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is set")
@pytest.mark.parametrize(
    ("device", "environment", "mapped"),
    [
        (None, {}, 0),
        ("cpu", {}, 8),
        ("cuda", {}, 0),
        ("cpu", {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}, 0),
    ],
)
def test_large_blocks_of_a_run_on_a_cpu_go_back_when_they_are_freed(device, environment, mapped):
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *([] if device is None else [device])],
        env=own | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) == mapped
