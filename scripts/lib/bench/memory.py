"""Memory that the machine really has.

The host of a virtual machine takes back memory that is free for some seconds (free page reporting), and gives each page
anew at its first use: seconds for 1 GiB, which a system that fills the page cache would pay and curl, which throws away
what it gets, would not. On a node that has run for a while free memory is seldom fresh.
"""
import sys

from .processes import run

TOUCH = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
for place in range(0, len(memory), mmap.PAGESIZE):
    memory[place] = 1
"""


def populate(size):
    """Uses so many bytes and frees them, just before something that is timed needs them."""
    run([sys.executable, "-c", TOUCH, str(size)], "touching memory")
