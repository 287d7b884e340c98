"""The cases of writing. All of them begin with a mount that has written a file before, and so knows its store."""
import contextlib
import os

from . import memory, writing
from .cases import case
from .processes import Failure
from .report import COUNT, FILES, MEMORY, PROCESSOR, RATE, WRITES, Bar

FIRST = 20 << 10
WRITE_BACK = ("--write-type", "asyncThrough")


class Usage:
    """What Larder's processes and its store have to do for something that is timed."""

    def __init__(self):
        self.seconds, self.memory, self.requests = [], [], []

    def during(self, node, body):
        seconds, requests = node.processor_seconds(), node.requests()
        result = body()
        self.seconds.append(node.processor_seconds() - seconds)
        self.requests.append(node.requests() - requests)
        self.memory.append(node.peak_memory())
        return result

    def add(self, bench, suffix="", each=1):
        if self.seconds:
            bench.add(f"larder's processes{suffix}", PROCESSOR, self.seconds)
            bench.add(f"larder's peak memory{suffix}", MEMORY, self.memory)
            note = f"for {each} files" if each > 1 else ""
            bench.add(f"larder's requests to the store{suffix}", COUNT, self.requests, note=note)


def warm(mountpoint, name):
    """A directory in the mount, in which a file has been written."""
    directory = os.path.join(mountpoint, name)
    try:
        os.mkdir(directory)
        with open(os.path.join(directory, "first"), "wb") as out:
            out.write(os.urandom(FIRST))
    except OSError as error:
        raise Failure(f"{directory}: {error.strerror}") from error
    return directory


@contextlib.contextmanager
def mounted(bench, peer, store, name, flags=()):
    """A new mount of Larder (`peer` is None) or of a peer with an empty cache: the directory to write in, and the node."""
    if peer is None:
        with bench.larder() as node:
            yield warm(node.mount(store, flags=flags), name), node
    else:
        with peer.mounted(store, bench.scratch(), writable=True) as root:
            yield warm(root, name), None


@case("write-sequential")
def write_sequential(bench):
    """A new object through the mount, its close included, and parallel uploads in parts of a local file."""
    store = bench.gateway
    used = Usage()
    rclone = next((peer for peer in bench.installed_peers() if peer.name == "rclone"), None)
    key = "written/object.bin"

    def through(peer):
        name = f"written-{bench.number()}"
        with mounted(bench, peer, store, name) as (directory, node):
            path = os.path.join(directory, "object.bin")
            if node is None:
                is_there = None if peer.close_waits else lambda: store.has(f"{name}/object.bin", bench.size)
                rate = writing.sequential(path, bench.size, is_there)
            else:
                rate = used.during(node, lambda: writing.sequential(path, bench.size))
            os.unlink(path)
            return rate

    systems = {"boto3, 8 parts at once": lambda: writing.upload_boto3(store, bench.object_path, key)}
    if rclone:
        systems["rclone copyto, 8 parts at once"] = lambda: writing.upload_rclone(rclone, store, bench.object_path, key)
    references = list(systems)
    systems["larder"] = lambda: through(None)
    for peer in bench.writing_peers():
        systems[peer.name] = lambda peer=peer: through(peer)

    def settle():
        store.client.delete_object(Bucket=store.bucket, Key=key)
        os.sync()
        memory.populate(3 * bench.size)

    bench.compare(systems, RATE, {"larder": Bar(0.8)}, against=references, settle=settle)
    used.add(bench)


@case("write-small")
def write_small(bench):
    """New files of 20 KiB, each in the store when its close returns; by one writer and by 8."""
    store = bench.gateway
    for writers in (1, 8):
        # One writer waits for each answer: a tenth tells as much.
        files = (500 if bench.quick else 5000) // (10 if writers == 1 else 1)
        used = Usage()

        def through(peer, writers=writers, files=files, used=used):
            name = f"small-{bench.number()}"
            with mounted(bench, peer, store, name) as (directory, node):
                if node is None:
                    is_there = None if peer.close_waits else lambda: store.count(f"{name}/file-") == files
                    return writing.small(directory, files, writers, is_there)
                return used.during(node, lambda: writing.small(directory, files, writers))

        systems = {"larder": lambda through=through: through(None)}
        for peer in bench.writing_peers():
            systems[peer.name] = lambda peer=peer, through=through: through(peer)
        suffix = f" ({writers} writer{'s' if writers > 1 else ''})"
        bench.compare(
            systems, FILES, {"larder": Bar(1)}, against=[name for name in systems if name != "larder"], suffix=suffix,
            settle=os.sync)
        used.add(bench, suffix, files)


@case("write-small-async")
def write_small_async(bench):
    """New files of 20 KiB that the node keeps and uploads later, and the same on the local disk."""
    store = bench.gateway
    files = 500 if bench.quick else 5000
    used = Usage()

    def local():
        directory = bench.scratch()
        os.mkdir(directory)
        return writing.small(directory, files, 1)

    def through_larder():
        with mounted(bench, None, store, f"small-{bench.number()}", WRITE_BACK) as (directory, node):
            rate = used.during(node, lambda: writing.small(directory, files, 1))
            node.run("flush", directory)
            return rate

    bench.compare({"local disk": local, "larder": through_larder}, FILES, {"larder": Bar(1 / 3)}, settle=os.sync)
    used.add(bench, each=files)


@case("write-random-4k")
def write_random_4k(bench):
    """4 KiB at random offsets of an open file, without fsync, and the same on the local disk."""
    seconds, size = (1, 64 << 20) if bench.quick else (3, 256 << 20)
    with mounted(bench, None, bench.gateway, "random", WRITE_BACK) as (directory, node):
        local = bench.scratch()
        os.mkdir(local)
        paths = {"local disk": os.path.join(local, "file"), "larder": os.path.join(directory, "file")}
        for path in paths.values():
            writing.sequential(path, size)
        notes = {}
        # Open for the whole case: opening a file to write brings its bytes to the node first, and closing it commits it.
        with open(paths["larder"], "r+b") as opened:
            notes["larder"] = f"written by {node.mode(opened.name)}"
            bench.compare(
                {name: lambda path=path: writing.random_4k(path, size, seconds) for name, path in paths.items()},
                WRITES, {"larder": Bar(1 / 1.2)}, notes, settle=os.sync)
