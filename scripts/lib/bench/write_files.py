"""write_files.py sequential PATH MEBIBYTES: one new file, in pieces of 1 MiB, and its close.
write_files.py small DIRECTORY FILES WRITERS: so many new files of 20 KiB by so many threads, one after another in each.

Prints the seconds. A process of its own, so that a write that hangs can be killed.
"""
import concurrent.futures
import os
import sys
import time

SMALL = 20 << 10


def write(path, pieces):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for piece in pieces:
        if os.write(file, piece) != len(piece):
            raise OSError(f"{path}: a short write")
    os.close(file)


def sequential(path, mebibytes):
    # Different pieces, so that nothing that finds equal blocks has an advantage.
    pieces = [os.urandom(1 << 20) for _ in range(16)]
    started = time.perf_counter()
    write(path, (pieces[number % len(pieces)] for number in range(mebibytes)))
    return time.perf_counter() - started


def small(directory, files, writers):
    contents = [os.urandom(SMALL) for _ in range(16)]

    def work(writer):
        for number in range(writer, files, writers):
            write(f"{directory}/file-{number:05}", [contents[number % len(contents)]])

    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        started = time.perf_counter()
        for done in [pool.submit(work, writer) for writer in range(writers)]:
            done.result()
        return time.perf_counter() - started


if sys.argv[1] == "sequential":
    print(sequential(sys.argv[2], int(sys.argv[3])))
else:
    print(small(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
