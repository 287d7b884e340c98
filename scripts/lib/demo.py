"""demo.py LARDER JUICEFS: a tour of Larder on this machine. See scripts/demo."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import boto3
import botocore.config

import s3_gateway
import trips

# Each query runs in a process of its own, so that what is warm is warm in Larder and not inside DuckDB.
# Of the cold query's bytes, what a later one may still bring: see verdict().
NEW_SHARE = 0.05

QUERY = """
import duckdb, json, sys, time
lake, reference = sys.argv[1:]
started = time.perf_counter()
answer = duckdb.sql(f'''
    SELECT borough, count(*), sum(fare_cents), sum(tip_cents), max(metres)
    FROM read_parquet('{lake}/trips/*/*/*.parquet', hive_partitioning = true) AS trip
    JOIN read_parquet('{reference}/zones.parquet') AS zone ON zone.zone = trip.pickup_zone
    WHERE year = 2025 AND payment = 'card'
    GROUP BY borough ORDER BY borough''').fetchall()
print(json.dumps({"seconds": time.perf_counter() - started, "answer": [[str(value) for value in row] for row in answer]}))
"""


def colour(code, text):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def say(text):
    print(text, flush=True)


@contextlib.contextmanager
def step(text):
    print(f"  {text} … ", end="", flush=True)
    started = time.perf_counter()
    details = []
    try:
        yield details.append
    except BaseException as error:
        say("stopped" if isinstance(error, KeyboardInterrupt) else colour("31", "failed"))
        raise
    say(colour("32", "done") + f" in {time.perf_counter() - started:.1f} s" + "".join(f", {d}" for d in details))


def size(count):
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class Demo:
    def __init__(self, larder, juicefs, directory):
        self.larder = larder
        self.juicefs = juicefs
        self.directory = directory
        # A coordinator of the demo's own: neither the one of this user nor its cache is touched.
        runtime = os.path.join(directory, "run")
        os.mkdir(runtime, 0o700)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment.update(
            XDG_RUNTIME_DIR=runtime, XDG_CACHE_HOME=f"{directory}/xdg-cache", XDG_CONFIG_HOME=f"{directory}/xdg-config")
        self.namespace = os.path.join(directory, "namespace.yaml")
        self.coordinator = None

    def run(self, *arguments):
        done = subprocess.run(
            [self.larder, *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"larder {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def store_counters(self):
        """(requests, bytes) that Larder has asked of S3 since its coordinator started."""
        status = json.loads(self.run("status", "--json"))
        self.coordinator = status["coordinator"]["pid"]
        remote = [store for store in status["stores"] if store["identity"].startswith("s3:")]
        return (sum(sum(store["requests"].values()) for store in remote), sum(store["bytesReceived"] for store in remote))

    @contextlib.contextmanager
    def mounted(self, name):
        mountpoint = os.path.join(self.directory, name)
        os.mkdir(mountpoint)
        try:
            self.run("mount", self.namespace, mountpoint, "--cache-dir", f"{self.directory}/cache", "--cache-size", "2GiB",
                     "--ram-size", "0")
            yield mountpoint
        finally:
            if os.path.ismount(mountpoint):
                subprocess.run([self.larder, "umount", mountpoint], env=self.environment, check=False)
            if os.path.ismount(mountpoint):
                subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=False)

    def query(self, lake, reference):
        done = subprocess.run(
            [sys.executable, "-c", QUERY, lake, reference], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"the query on {lake} failed:\n{done.stderr.strip()}")
        return json.loads(done.stdout)

    def measured_query(self, root):
        before = self.store_counters()
        result = self.query(f"{root}/lake", f"{root}/reference")
        after = self.store_counters()
        return result | {"requests": after[0] - before[0], "bytes": after[1] - before[1]}

    def make_data(self):
        lake = os.path.join(self.directory, "local", "lake")
        reference = os.path.join(self.directory, "reference")
        os.makedirs(lake)
        os.makedirs(reference)
        trips.write_zones(f"{reference}/zones.parquet")
        paths = ["trips/" + path for path in trips.write_trips(f"{lake}/trips")]
        return lake, reference, paths

    def upload(self, gateway, lake, paths):
        client = boto3.client(
            "s3", endpoint_url=gateway.endpoint, region_name="us-east-1", aws_access_key_id=gateway.access_key,
            aws_secret_access_key=gateway.secret_key, config=botocore.config.Config(s3={"addressing_style": "path"}))
        client.create_bucket(Bucket="lake")
        for path in paths:
            with open(os.path.join(lake, path), "rb") as body:
                client.put_object(Bucket="lake", Key=path, Body=body)

    def write_namespace(self, gateway, reference):
        with open(self.namespace, "w", encoding="utf-8") as out:
            out.write(
                "mounts:\n"
                "  - path: /lake\n"
                "    source: s3://lake\n"
                f"    endpoint: {gateway.endpoint}\n"
                "    region: us-east-1\n"
                "    pathStyle: on\n"
                "  - path: /reference\n"
                f"    source: file://{reference}\n")
        self.environment.update(AWS_ACCESS_KEY_ID=gateway.access_key, AWS_SECRET_ACCESS_KEY=gateway.secret_key)

    def tour(self):
        with step("writing a partitioned Parquet data set") as detail:
            lake, reference, paths = self.make_data()
            total = sum(os.path.getsize(os.path.join(lake, path)) for path in paths)
            detail(f"{len(paths)} files, {size(total)}")
        with s3_gateway.Gateway(self.juicefs, os.path.join(self.directory, "s3")) as gateway:
            with step("uploading it to a local S3 server"):
                self.upload(gateway, lake, paths)
            self.write_namespace(gateway, reference)
            say("\n" + "".join(f"    {line}" for line in open(self.namespace, encoding="utf-8")))
            rows = {}
            with contextlib.ExitStack() as mounts:
                with step("larder mount namespace.yaml mnt"):
                    first = mounts.enter_context(self.mounted("mnt"))
                for name in ("cold", "warm"):
                    with step(f"DuckDB query, {name}"):
                        rows[name] = self.measured_query(first)
                with step("larder mount namespace.yaml mnt2"):
                    second = mounts.enter_context(self.mounted("mnt2"))
                with step("DuckDB query through the second mount"):
                    rows["second mount"] = self.measured_query(second)
                with step("the same query on local files, to compare"):
                    rows["local files"] = self.query(lake, reference)
        return rows


def show(rows):
    say("")
    say(colour("1", f"  {'':<14}{'time':>10}{'requests to S3':>18}{'bytes from S3':>18}"))
    for name, row in rows.items():
        requests = str(row["requests"]) if "requests" in row else "–"
        received = size(row["bytes"]) if "bytes" in row else "–"
        say(f"  {name:<14}{row['seconds']:>8.3f} s{requests:>18}{received:>18}")
    say("")


def verdict(rows):
    """What must hold, whatever the machine's speed; one line for each thing that does not."""
    answers = {json.dumps(row["answer"]) for row in rows.values()}
    if len(answers) != 1:
        yield "the answers differ: " + "; ".join(f"{name}: {row['answer']}" for name, row in rows.items())
    if rows["cold"]["requests"] == 0 or rows["cold"]["bytes"] == 0:
        yield "the cold query asked nothing of the store: the counters or the cache are wrong"
    for name in ("warm", "second mount"):
        # Not zero: the query reads parts of files, and the kernel reads ahead a little further each time it comes by.
        if rows[name]["bytes"] > rows["cold"]["bytes"] * NEW_SHARE:
            yield f"the query called {name} took {size(rows[name]['bytes'])} from the store, which the first had read"


def left_behind(demo):
    """Waits for the coordinator, which leaves after the last mount; one line for each thing that is still there."""
    deadline = time.monotonic() + 10
    while demo.coordinator and os.path.exists(f"/proc/{demo.coordinator}") and time.monotonic() < deadline:
        time.sleep(0.05)
    if demo.coordinator and os.path.exists(f"/proc/{demo.coordinator}"):
        yield f"the coordinator (pid {demo.coordinator}) is still there, 10 s after its last mount has gone"
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for mountpoint in [line.split(" ")[4] for line in mounts]:
            if mountpoint.startswith(demo.directory + "/"):
                yield f"still mounted: {mountpoint}"


def main(larder, juicefs):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    directory = tempfile.mkdtemp(prefix="larder-demo.")
    demo = Demo(larder, juicefs, directory)
    rows, problems, stopped = {}, [], False
    try:
        rows = demo.tour()
    except KeyboardInterrupt:
        stopped = True
    except RuntimeError as error:
        problems.append(str(error))
    finally:
        # Another Ctrl-C must not interrupt the tidying up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        left = list(left_behind(demo))
        if left:
            problems += left + [f"{directory} was not removed"]
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if rows:
        show(rows)
        problems += verdict(rows)
    for problem in problems:
        print(f"demo: {problem}", file=sys.stderr)
    if not problems:
        answers = "" if stopped else f"All {len(rows)} answers are the same. "
        say(f"  {answers}Unmounted and cleaned up.")
    return 1 if problems else 130 if stopped else 0


sys.exit(main(*sys.argv[1:]))
