"""See scripts/bench."""
import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile

import numpy

from . import reading, write_cases  # noqa: F401, write_cases registers its cases
from .cases import CASES
from .larder import LarderNode
from .peers import JuiceFS, known_peers
from .processes import Failure, run
from .report import Row, file_system, machine, table
from .stores import BUCKET, GatewayStore, NginxStore

TOOLS = os.path.abspath(".tools/bin")
PARTS = 64
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """What a case uses: the data, the servers over it, systems, and where its rows go."""
    OBJECT = "object.bin"

    def __init__(self, binary, directory, quick, runs, services):
        self.binary = binary
        self.directory = directory
        self.quick = quick
        self.runs = runs
        self.services = services
        self.size = (256 << 20) if quick else (1 << 30)
        self.rows = []
        self.problems = []
        self.case = None
        self.root = os.path.join(directory, "data")
        self.bucket_path = os.path.join(self.root, BUCKET)
        self.object_path = os.path.join(self.bucket_path, self.OBJECT)
        self.peers = known_peers(TOOLS)
        self._stores = {}
        self._scratches = 0
        self._numbers = 0

    # Data

    def make_data(self):
        """One large object and some small ones; seeded, and nothing that could be compressed."""
        os.makedirs(os.path.join(self.bucket_path, "parts"))
        random = numpy.random.default_rng(20261122)
        self._write(self.object_path, self.size >> 20, random)
        for number in range(PARTS):
            self._write(os.path.join(self.bucket_path, "parts", f"part-{number:03}"), 1, random)
        os.sync()

    @staticmethod
    def _write(path, mebibytes, random):
        with open(path, "wb") as out:
            for _ in range(mebibytes):
                out.write(random.bytes(1 << 20))

    def all_paths(self, root):
        """The whole bucket, below a mount or the local directory."""
        return [os.path.join(root, self.OBJECT), *(os.path.join(root, "parts", f"part-{n:03}") for n in range(PARTS))]

    # Systems

    def _store(self, name, make):
        if name not in self._stores:
            say(f"  starting {name} …")
            self._stores[name] = self.services.enter_context(make(os.path.join(self.directory, name)))
        return self._stores[name]

    @property
    def nginx(self):
        return self._store("nginx", lambda directory: NginxStore(self.root, directory))

    @property
    def gateway(self):
        juicefs = os.path.join(TOOLS, "juicefs")
        return self._store("gateway", lambda directory: GatewayStore(juicefs, self.root, directory))

    def scratch(self):
        """A path for one mount's things; it does not exist yet. Short, because a socket lies below it."""
        self._scratches += 1
        return os.path.join(self.directory, f"m{self._scratches}")

    def number(self):
        """Another one each time, for names in the store."""
        self._numbers += 1
        return self._numbers

    def larder(self):
        return LarderNode(self.binary, self.scratch(), self.complain)

    def writing_peers(self):
        """Peers whose mounts can be written: also one whose store nobody else can read."""
        juicefs = os.path.join(TOOLS, "juicefs")
        return [*self.installed_peers(), *([JuiceFS("juicefs", juicefs)] if os.access(juicefs, os.X_OK) else [])]

    def installed_peers(self):
        """Those that can be measured; the table says which are missing."""
        for peer in self.peers:
            if peer.program is None and not any(r.case == self.case and r.system == peer.name for r in self.rows):
                self.rows.append(Row(self.case, peer.name, note="missing"))
        return [peer for peer in self.peers if peer.program]

    # Figures

    def compare(self, systems, unit, bars=None, notes=None, against=None, suffix="", settle=None):
        """Runs each system by turns, and adds a row for each.

        Ratios are to the best of those named in `against`, by default the first. `settle` is called before each measurement, for
        what the one before left behind.
        """
        values = {name: [] for name in systems}
        failures = {}
        for turn in range(self.runs):
            for name, measure in systems.items():
                if name in failures:
                    continue
                if settle:
                    settle()
                try:
                    values[name].append(measure())
                    say(f"  {self.case}{suffix}: {name}: {unit.show(values[name][-1])} ({turn + 1} of {self.runs})")
                except Failure as failure:
                    failures[name] = failure
                    self.failed(name + suffix, failure)
        against = list(systems)[:1] if against is None else against
        reference = max((statistics.median(values[name]) for name in against if name not in failures), default=None)
        for name in systems:
            if name in failures:
                continue
            self.rows.append(Row(
                self.case, name + suffix, unit, values[name], None if name in against else reference,
                (bars or {}).get(name), (notes or {}).get(name, "")))

    def add(self, system, unit, values, bar=None, note=""):
        self.rows.append(Row(self.case, system, unit, list(values), bar=bar, note=note))

    def failed(self, system, failure):
        say(f"  {self.case}: {system}: {failure}")
        self.rows.append(Row(self.case, system, note=f"failed: {failure}", failed=True))

    def skipped(self, why):
        self.rows.append(Row(self.case, "", note=f"not measured: {why}"))

    def complain(self, problem):
        self.problems.append(problem)

    def run_case(self, name):
        self.case = name
        say(f"{name}: {CASES[name].__doc__}")
        try:
            CASES[name](self)
        except (Failure, OSError) as failure:
            self.failed("larder", failure)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures Larder beside what it is compared with.")
    parser.add_argument("--case", action="append", choices=list(CASES), metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--quick", action="store_true", help="256 MiB instead of 1 GiB, and 2 runs")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each system (5)")
    parser.add_argument("--json", metavar="FILE", help="write every value there")
    parser.add_argument(
        "--directory", default=os.environ.get("TMPDIR", "/var/tmp"), metavar="DIR",
        help="where data and caches lie while it runs, about 8 GiB: a local disk")
    chosen = parser.parse_args()
    chosen.runs = chosen.runs or (2 if chosen.quick else 5)
    if chosen.runs < 1:
        parser.error("--runs needs a number from 1")
    return chosen


def describe(chosen, binary, directory, bench):
    facts = machine()
    facts["fileSystem"] = file_system(directory)
    facts["larder"] = run([binary, "--version"]).strip()
    facts["objectMiB"] = bench.size >> 20
    facts["runs"] = chosen.runs
    facts["peers"] = {peer.name: peer.version() if peer.program else "missing" for peer in bench.peers}
    if facts["load"] > 0.25 * facts["cores"]:
        say(f"bench: this machine is busy (load {facts['load']:.1f}): figures will be too low and uneven")
    return facts


def heading(facts):
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    return (
        f"Measured on {facts['date']}: {facts['cores']} cores ({facts['processor']}), {facts['memoryGiB']} GiB RAM, "
        f"Linux {facts['kernel']}, {facts['fileSystem']}, load {facts['load']:.1f} at the start.\n"
        f"{facts['larder']}; object of {facts['objectMiB']} MiB; {facts['runs']} runs of each system, by turns. {peers}.")


def write_json(path, facts, rows):
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"machine": facts, "rows": [row.json() for row in rows]}, out, indent=2, ensure_ascii=False)
        out.write("\n")


def ignore_signals():
    """A second Ctrl-C must not interrupt the tidying up."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def stop(number, _):
    ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def main():
    chosen = arguments()
    if chosen.list:
        print("\n".join(f"{name:<18}{function.__doc__}" for name, function in CASES.items()))
        return 0
    binary = os.environ["LARDER_BINARY"]
    for number in STOPPING:
        signal.signal(number, stop)
    directory = tempfile.mkdtemp(prefix="larder-bench.", dir=chosen.directory)
    bench, facts, stopped = None, None, False
    try:
        with contextlib.ExitStack() as services:
            bench = Bench(binary, directory, chosen.quick, chosen.runs, services)
            facts = describe(chosen, binary, directory, bench)
            say("writing the data …")
            bench.make_data()
            reading.sequential(*bench.all_paths(bench.bucket_path))
            for name in chosen.case or CASES:
                bench.run_case(name)
    except KeyboardInterrupt:
        stopped = True
    except Failure as failure:
        bench.complain(str(failure))
    finally:
        ignore_signals()
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            left = [line.split(" ")[4] for line in mounts if line.split(" ")[4].startswith(directory + "/")]
        if left:
            say(f"bench: still mounted, and so not removed: {', '.join(left)}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if facts and bench.rows:
        print(heading(facts), table(bench.rows), sep="\n\n")
        if chosen.json:
            write_json(chosen.json, facts, bench.rows)
    for problem in bench.problems:
        say(f"bench: {problem}")
    # A bar that is missed is a figure; that nothing could be measured is an error.
    return 130 if stopped else 1 if bench.problems or any(row.failed for row in bench.rows) else 0


sys.exit(main())
