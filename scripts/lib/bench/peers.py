"""Other programs that mount a bucket, with a cache on disk. Each has to be installed; none is by scripts/setup but rclone."""
import contextlib
import os
import re
import shutil
import time

from .processes import Failure, run, start, stop, tail, unmount
from .stores import BUCKET


class Peer:
    """One program; `program` is its path, or None when it is not installed."""
    #: Whether close(2) in a writable mount returns when the store has the file.
    close_waits = True

    def __init__(self, name, program):
        self.name = name
        self.program = program

    def version(self):
        found = re.search(r"\d+(\.\d+)+", run([self.program, "--version"]))
        return found.group() if found else "unknown"

    def command(self, store, mountpoint, directory, writable):
        """Arguments and environment that mount the bucket in the foreground, with a cache in directory/cache."""
        raise NotImplementedError

    @contextlib.contextmanager
    def mounted(self, store, directory, writable=False):
        """A mount with an empty cache; all of it is gone at the end."""
        mountpoint = f"{directory}/mnt"
        os.makedirs(mountpoint)
        os.makedirs(f"{directory}/cache")
        arguments, environment = self.command(store, mountpoint, directory, writable)
        process = start(arguments, f"{directory}/log", {**os.environ, **environment})
        try:
            deadline = time.monotonic() + 30
            while not os.path.ismount(mountpoint):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"{self.name} did not mount: {tail(f'{directory}/log')}")
                time.sleep(0.01)
            yield mountpoint
        finally:
            stop(process)
            unmount(mountpoint)
            if not os.path.ismount(mountpoint):
                shutil.rmtree(directory, ignore_errors=True)


class Rclone(Peer):
    # It uploads when the kernel releases the file, of which close(2) does not hear.
    close_waits = False

    def connection(self, store):
        """Arguments and environment that name the store; no configuration of whoever runs this."""
        arguments = [
            "--config", "/dev/null", "--s3-provider", "Other", "--s3-endpoint", store.endpoint, "--s3-region", "us-east-1",
            "--s3-force-path-style", "--s3-no-check-bucket"]
        if store.access_key:
            return arguments, {"RCLONE_S3_ACCESS_KEY_ID": store.access_key, "RCLONE_S3_SECRET_ACCESS_KEY": store.secret_key}
        return arguments, {}

    def command(self, store, mountpoint, directory, writable):
        connection, environment = self.connection(store)
        # "full" keeps on disk what is read; an upload begins with the last close.
        arguments = [
            self.program, "mount", f":s3:{BUCKET}", mountpoint, *connection, "--cache-dir", f"{directory}/cache",
            "--vfs-cache-mode", "full", *(["--vfs-write-back", "0s"] if writable else ["--read-only"])]
        return arguments, environment


class S3fs(Peer):
    def command(self, store, mountpoint, directory, writable):
        options = f"url={store.endpoint},use_path_request_style,endpoint=us-east-1,use_cache={directory}/cache,parallel_count=8"
        environment = {}
        if store.access_key:
            environment = {"AWSACCESSKEYID": store.access_key, "AWSSECRETACCESSKEY": store.secret_key}
        else:
            options += ",public_bucket=1"
        return [self.program, BUCKET, mountpoint, "-f", "-o", options], environment


class JuiceFS(Peer):
    """Keeps blocks in the bucket and names in a database of its own (SQLite here): only for writing."""

    def command(self, store, mountpoint, directory, writable):
        database = f"sqlite3://{directory}/meta.db"
        environment = {"ACCESS_KEY": store.access_key, "SECRET_KEY": store.secret_key}
        name = f"juicefs-{os.path.basename(directory)}"
        store.client.create_bucket(Bucket=name)
        run([
            self.program, "format", "--storage", "s3", "--bucket", f"{store.endpoint}/{name}", "--trash-days", "0",
            database, name], "juicefs format", {**os.environ, **environment})
        return [
            self.program, "mount", "--no-usage-report", "--cache-dir", f"{directory}/cache", database, mountpoint,
        ], {}


def known_peers(tools):
    """All peers, installed or not. `tools` is where scripts/setup puts programs."""
    def find(name):
        own = os.path.join(tools, name)
        return own if os.access(own, os.X_OK) else shutil.which(name)
    return [Rclone("rclone", find("rclone")), S3fs("s3fs", find("s3fs"))]
