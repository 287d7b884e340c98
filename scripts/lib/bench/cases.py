"""The cases. To add one: a function with @case that measures systems by turns and adds rows; docs/performance.md explains it."""
import contextlib
import os
import signal
import threading
import time

from . import memory, reading
from .processes import Failure, run
from .report import COUNT, PROCESSOR, RATE, READS, SECONDS, Bar

CASES = {}


def case(name):
    def register(function):
        CASES[name] = function
        return function
    return register


def remember(mounts, bench, name, open_mount):
    """Opens a mount for the whole case; a system that cannot be mounted fails alone."""
    try:
        return mounts.enter_context(open_mount())
    except Failure as failure:
        bench.failed(name, failure)
        return None


@case("warm-sequential")
def warm_sequential(bench):
    """A cached object through the mount, and the same bytes of a local file."""
    store = bench.nginx
    with contextlib.ExitStack() as mounts:
        paths = {"local file": bench.object_path}
        node = mounts.enter_context(bench.larder())
        paths["larder"] = os.path.join(node.mount(store), bench.OBJECT)
        for peer in bench.installed_peers():
            root = remember(mounts, bench, peer.name, lambda peer=peer: peer.mounted(store, bench.scratch()))
            if root:
                paths[peer.name] = os.path.join(root, bench.OBJECT)
        for name in list(paths):
            try:
                # Twice: the first brings it into the cache, the second opens it complete.
                reading.same_bytes(paths[name], bench.object_path)
                reading.sequential(paths[name])
            except Failure as failure:
                bench.failed(name, failure)
                del paths[name]
        used = []

        def through_larder():
            before = node.processor_seconds()
            result = reading.sequential(paths["larder"])
            used.append(node.processor_seconds() - before)
            return result

        systems = {name: lambda path=path: reading.sequential(path) for name, path in paths.items()}
        if "larder" in systems:
            systems["larder"] = through_larder
        mode = f"read by {node.mode(paths['larder'])}" if "larder" in paths else ""
        # The caches are still on their way to the disk, which takes processor and memory from the readers.
        os.sync()
        bench.compare(systems, RATE, {"larder": Bar(0.9)}, {"larder": mode})
        if used:
            # One tick of the kernel's clock is what a few messages at open may show as.
            bench.add("larder's processes", PROCESSOR, used, bar=Bar(0.02, at_least=False, of_ratio=False))


@case("warm-random-4k")
def warm_random_4k(bench):
    """4 KiB at random offsets of a cached object, and of a local file; both from the page cache."""
    seconds = 1 if bench.quick else 3
    with bench.larder() as node:
        path = os.path.join(node.mount(bench.nginx), bench.OBJECT)
        reading.same_bytes(path, bench.object_path)
        for warmed in (path, bench.object_path):
            reading.sequential(warmed)
        os.sync()
        bench.compare({
            "local file": lambda: reading.random_4k(bench.object_path, seconds),
            "larder": lambda: reading.random_4k(path, seconds),
        }, READS, {"larder": Bar(0.9)}, {"larder": f"read by {node.mode(path)}"})


@case("disk-sequential")
def disk_sequential(bench):
    """A cached object and a local file, both from the disk: what a node sees that has just started."""
    if os.geteuid() != 0:
        return bench.skipped("only root may drop the page cache")
    with bench.larder() as node:
        path = os.path.join(node.mount(bench.nginx), bench.OBJECT)
        reading.same_bytes(path, bench.object_path)

        def dropped(path):
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w", encoding="utf-8") as control:
                control.write("1")
            return reading.sequential(path)

        bench.compare(
            {"local file": lambda: dropped(bench.object_path), "larder": lambda: dropped(path)}, RATE,
            {"larder": Bar(0.9)})


@case("second-mount")
def second_mount(bench):
    """Another mount of the node reads everything that the first has read: the store must not be asked."""
    store = bench.nginx
    # Longer than the case: after its TTL a name is asked for again, by whichever mount.
    flags = ("--metadata-ttl", "1h")
    own, servers, mounting = [], [], []
    with bench.larder() as node:
        reading.sequential(*bench.all_paths(node.mount(store, flags=flags)))

        def through_second():
            before = node.requests()
            mountpoint = node.mount(store, flags=flags)
            mounted = node.requests()
            server = store.requests()
            result = reading.sequential(*bench.all_paths(mountpoint))
            own.append(node.requests() - mounted)
            servers.append(store.requests() - server)
            mounting.append(mounted - before)
            node.umount(mountpoint)
            return result

        os.sync()
        bench.compare({
            "local files": lambda: reading.sequential(*bench.all_paths(bench.bucket_path)),
            "larder, second mount": through_second,
        }, RATE, {"larder, second mount": Bar(0.9)})
    nothing = Bar(0, at_least=False, of_ratio=False)
    if own:
        note = f"and {max(mounting):.0f} while mounting"
        bench.add("requests, by larder status", COUNT, own, bar=nothing, note=note)
        bench.add("requests, by the server's log", COUNT, servers, bar=nothing)


@case("cold-sequential")
def cold_sequential(bench):
    """One reader of an object that no cache has, and 8 parallel range GETs by curl from the same server."""
    for get_store in (lambda: bench.nginx, lambda: bench.gateway):
        try:
            store = get_store()
        except Failure as failure:
            bench.failed("gateway", failure)
            continue

        used = []

        def through_larder(store=store, used=used):
            with bench.larder() as node:
                path = os.path.join(node.mount(store), bench.OBJECT)
                before = node.processor_seconds()
                result = reading.sequential(path)
                used.append(node.processor_seconds() - before)
                return result

        def through_peer(peer, store=store):
            with peer.mounted(store, bench.scratch()) as root:
                return reading.sequential(os.path.join(root, bench.OBJECT))

        # Which of the two is faster depends on the machine; Larder is compared with the faster.
        url = store.url(bench.OBJECT)
        systems = {
            "curl, 8 processes": lambda url=url: reading.curl_processes(url, bench.size),
            "curl --parallel": lambda url=url: reading.curl_parallel(url, bench.size),
            "larder": through_larder,
        }
        references = list(systems)[:2]
        for peer in bench.installed_peers():
            systems[peer.name] = lambda peer=peer: through_peer(peer)

        def settle():
            os.sync()
            memory.populate(3 * bench.size)

        bench.compare(
            systems, RATE, {"larder": Bar(0.6)}, against=references, suffix=f" ({store.name})", settle=settle)
        if used:
            bench.add(f"larder's processes ({store.name})", PROCESSOR, used)


@case("first-byte")
def first_byte(bench):
    """From `larder mount` to the first byte of a file, less one round trip to the store."""
    store = bench.nginx
    round_trip = store.round_trip(f"/bench/{bench.OBJECT}")

    def timed(node):
        mountpoint = node.new_mountpoint()
        started = time.perf_counter()
        node.mount(store, mountpoint)
        run(["head", "-c", "1", os.path.join(mountpoint, bench.OBJECT)], "reading a byte")
        return time.perf_counter() - started - round_trip

    def alone():
        with bench.larder() as node:
            return timed(node)

    def beside_another():
        with bench.larder() as node:
            # Something else of the bucket, so that nothing of the file is known.
            node.mount(store, prefix="/parts")
            return timed(node)

    bar = Bar(0.150, at_least=False, of_ratio=False)
    bench.compare(
        {"larder": alone, "larder, coordinator running": beside_another}, SECONDS,
        {"larder": bar, "larder, coordinator running": bar}, against=(),
        notes={"larder": f"a round trip is {round_trip * 1e3:.2f} ms"})


@case("resume")
def resume(bench):
    """The longest wait of a caller while the mount's process is killed, or upgraded, and another goes on."""
    store = bench.nginx

    def longest_wait(replace):
        with bench.larder() as node:
            mountpoint = node.mount(store)
            path = os.path.join(mountpoint, bench.OBJECT)
            waits = []
            done = threading.Event()

            def call():
                # An answer of the mount's process each time, which no cache of the kernel's gives.
                while not done.is_set():
                    started = time.perf_counter()
                    os.getxattr(path, "user.larder.mode")
                    waits.append(time.perf_counter() - started)

            caller = threading.Thread(target=call)
            caller.start()
            time.sleep(0.5)
            replace(node, mountpoint)
            time.sleep(2)
            done.set()
            caller.join()
            if node.status()["mounts"][0]["generation"] != 2:
                raise Failure("the mount is not in its second process")
            return max(waits)

    def kill(node, _):
        os.kill(node.status()["mounts"][0]["pid"], signal.SIGKILL)

    def upgrade(node, mountpoint):
        node.run("upgrade", mountpoint)

    bar = Bar(1.0, at_least=False, of_ratio=False)
    bench.compare(
        {"larder, killed": lambda: longest_wait(kill), "larder, upgraded": lambda: longest_wait(upgrade)}, SECONDS,
        {"larder, killed": bar, "larder, upgraded": bar}, against=())
