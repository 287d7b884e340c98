"""The ways of reading that are timed. Each returns a rate or raises Failure."""
import json
import os
import subprocess
import sys
import time

import s3_gateway

from .processes import PATIENCE, Failure, run

CONNECTIONS = 8
CURL = ["--silent", "--show-error", "--fail", "--output", "/dev/null", "--write-out", "%{size_download}\\n"]


def sequential(*paths):
    """Bytes per second of reading whole files, one after another, in pieces of 1 MiB."""
    script = os.path.join(os.path.dirname(__file__), "read_files.py")
    result = json.loads(run([sys.executable, script, *paths], f"reading {paths[0]}"))
    try:
        expected = sum(os.stat(path).st_size for path in paths)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error
    if result["bytes"] != expected:
        raise Failure(f"read {result['bytes']} bytes of {expected} from {paths[0]}")
    return result["bytes"] / result["seconds"]


def random_4k(path, seconds):
    """Reads per second of 4 KiB at random offsets, one after another (fio, psync), through the page cache."""
    report = json.loads(run([
        "fio", "--name=random", f"--filename={path}", "--rw=randread", "--bs=4k", "--ioengine=psync", "--direct=0",
        "--readonly", "--invalidate=0", "--norandommap", "--time_based", f"--runtime={seconds}", "--output-format=json",
    ], f"fio on {path}"))
    job = report["jobs"][0]
    if job["error"] or not job["read"]["total_ios"]:
        raise Failure(f"fio on {path}: error {job['error']}")
    return job["read"]["iops"]


def ranges(size):
    """As many parts of an object as there are connections, as Range headers name them."""
    part = -(-size // CONNECTIONS)
    return [f"{begin}-{min(begin + part, size) - 1}" for begin in range(0, size, part)]


def curl_parallel(url, size):
    """Bytes per second of fetching an object with one range GET on each of 8 connections of one curl, thrown away."""
    arguments = []
    for part in ranges(size):
        arguments += ["--next"] if arguments else []
        arguments += [*CURL, "--range", part, url]
    return curls([["curl", "--parallel", "--parallel-immediate", "--no-progress-meter", *arguments]], size)


def curl_processes(url, size):
    """The same from a process for each connection, which can use all cores."""
    return curls([["curl", *CURL, "--range", part, url] for part in ranges(size)], size)


def curls(commands, size):
    started = time.perf_counter()
    clients = []
    received = 0
    try:
        for command in commands:
            clients.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                preexec_fn=s3_gateway.die_with_parent))
        for client in clients:
            out, problem = client.communicate(timeout=PATIENCE)
            if client.returncode != 0:
                raise Failure(f"curl exited with {client.returncode}: {problem.strip()}")
            received += sum(map(int, out.split()))
    except subprocess.TimeoutExpired as error:
        raise Failure(f"curl did not end in {PATIENCE} s") from error
    finally:
        for client in clients:
            if client.poll() is None:
                client.kill()
                client.wait()
    seconds = time.perf_counter() - started
    if received != size:
        raise Failure(f"curl received {received} bytes of {size}")
    return size / seconds


def same_bytes(path, original):
    run(["cmp", path, original], f"comparing {path} with what was stored")
