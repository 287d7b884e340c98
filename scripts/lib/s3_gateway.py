"""A local S3 server over a directory: JuiceFS's gateway (MinIO's front end), which checks signatures and is fast on ranges."""
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

PR_SET_PDEATHSIG = 1


def die_with_parent():
    """For preexec_fn: the kernel ends the child when this process is gone, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """Use as a context manager; `endpoint`, `access_key` and `secret_key` are what a client needs."""

    def __init__(self, juicefs, directory):
        self.juicefs = juicefs
        self.directory = directory
        self.access_key = "larder" + secrets.token_hex(4)
        self.secret_key = secrets.token_hex(16)
        self.endpoint = None
        self.process = None

    def __enter__(self):
        os.makedirs(self.directory, exist_ok=True)
        metadata = f"sqlite3://{self.directory}/meta.db"
        with open(f"{self.directory}/log", "ab") as log:
            subprocess.run(
                [self.juicefs, "format", "--storage", "file", "--bucket", f"{self.directory}/objects/",
                 "--trash-days", "0", metadata, "local"],
                check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            port = free_port()
            self.process = subprocess.Popen(
                [self.juicefs, "gateway", "--multi-buckets", "--keep-etag", "--object-meta", "--object-tag",
                 "--no-usage-report", "--cache-dir", f"{self.directory}/cache", metadata, f"127.0.0.1:{port}"],
                env={**os.environ, "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        self.endpoint = f"http://127.0.0.1:{port}"
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.endpoint}/minio/health/live", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        with open(f"{self.directory}/log", encoding="utf-8", errors="replace") as log:
            raise RuntimeError("the local S3 server did not start:\n" + log.read()[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
