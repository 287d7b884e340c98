"""The ways of writing that are timed. Each returns a rate or raises Failure."""
import json
import os
import sys
import time

import boto3.s3.transfer
import botocore.exceptions

from .processes import PATIENCE, Failure, run
from .stores import BUCKET

PART = 16 << 20
CONNECTIONS = 8


def _seconds(*arguments):
    script = os.path.join(os.path.dirname(__file__), "write_files.py")
    return float(run([sys.executable, script, *map(str, arguments)], f"writing {arguments[1]}"))


def _waiting(is_there):
    """Seconds until something is there; nothing is waited for without a question."""
    if is_there is None:
        return 0
    started = time.perf_counter()
    while not is_there():
        if time.perf_counter() - started > PATIENCE:
            raise Failure(f"the store did not have what was written after {PATIENCE} s")
        time.sleep(0.02)
    return time.perf_counter() - started


def sequential(path, size, is_there=None):
    """Bytes per second of writing a new file from begin to end and closing it, and of waiting until `is_there`."""
    rate = size / (_seconds("sequential", path, size >> 20) + _waiting(is_there))
    if os.stat(path).st_size != size:
        raise Failure(f"{path} has {os.stat(path).st_size} bytes, not {size}")
    return rate


def small(directory, files, writers, is_there=None):
    """Files per second."""
    return files / (_seconds("small", directory, files, writers) + _waiting(is_there))


def random_4k(path, size, seconds):
    """Writes per second of 4 KiB at random offsets of a file that is there, one after another (fio, psync); no fsync."""
    report = json.loads(run([
        "fio", "--name=random", f"--filename={path}", "--rw=randwrite", "--bs=4k", f"--size={size}", "--overwrite=1",
        "--ioengine=psync", "--direct=0", "--invalidate=0", "--norandommap", "--time_based", f"--runtime={seconds}",
        "--output-format=json",
    ], f"fio on {path}"))
    job = report["jobs"][0]
    if job["error"] or not job["write"]["total_ios"]:
        raise Failure(f"fio on {path}: error {job['error']}")
    return job["write"]["iops"]


def upload_boto3(store, path, key):
    """Bytes per second of a parallel upload in parts."""
    configuration = boto3.s3.transfer.TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=CONNECTIONS)
    started = time.perf_counter()
    try:
        store.client.upload_file(path, BUCKET, key, Config=configuration)
    except (botocore.exceptions.BotoCoreError, boto3.exceptions.S3UploadFailedError) as error:
        raise Failure(f"boto3: {error}") from error
    return os.stat(path).st_size / (time.perf_counter() - started)


def upload_rclone(rclone, store, path, key):
    """The same by rclone, its start included."""
    arguments, environment = rclone.connection(store)
    started = time.perf_counter()
    run([
        rclone.program, "copyto", path, f":s3:{BUCKET}/{key}", *arguments, "--s3-upload-concurrency", str(CONNECTIONS),
        "--s3-chunk-size", f"{PART}B", "--s3-upload-cutoff", f"{PART}B", "--s3-disable-checksum", "--ignore-times",
    ], "rclone copyto", {**os.environ, **environment})
    return os.stat(path).st_size / (time.perf_counter() - started)
