"""read_files.py PATH…: reads each file from begin to end in pieces of 1 MiB, as dd bs=1M does, and prints seconds and bytes.

A process of its own, so that a read that hangs can be killed; it measures itself, so that starting it is not measured.
"""
import json
import os
import sys
import time

PIECE = 1 << 20


def main(paths):
    piece = [memoryview(bytearray(PIECE))]
    total = 0
    started = time.perf_counter()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        while count := os.readv(file, piece):
            total += count
        os.close(file)
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": total}))


main(sys.argv[1:])
