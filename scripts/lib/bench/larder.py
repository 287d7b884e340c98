"""Larder as a node has it: one coordinator with a cache of its own, and mounts."""
import json
import os
import shutil
import signal
import subprocess
import time

from .processes import Failure, processor_seconds, run, unmount
from .stores import BUCKET


class LarderNode:
    """A context manager; at its end mounts, coordinator, cache and directory are gone.

    Its coordinator is found by XDG_RUNTIME_DIR: the one of whoever runs the script, and their cache, are not touched.
    """

    def __init__(self, binary, directory, complain):
        self.binary = binary
        self.directory = directory
        self.complain = complain
        self.coordinator = None
        self.mountpoints = []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment.update(
            XDG_RUNTIME_DIR=f"{directory}/run", XDG_CACHE_HOME=f"{directory}/xdg-cache",
            XDG_CONFIG_HOME=f"{directory}/xdg-config", XDG_STATE_HOME=f"{directory}/xdg-state")

    def __enter__(self):
        os.makedirs(self.directory)
        os.mkdir(f"{self.directory}/run", 0o700)
        return self

    def run(self, *arguments):
        return run([self.binary, *arguments], f"larder {arguments[0]}", self.environment, patience=120)

    def new_mountpoint(self):
        mountpoint = f"{self.directory}/mnt{len(self.mountpoints)}"
        os.mkdir(mountpoint)
        self.mountpoints.append(mountpoint)
        return mountpoint

    def mount(self, store, mountpoint=None, prefix="", flags=()):
        """Mounts the bucket, and returns where, as soon as `larder mount` does."""
        mountpoint = mountpoint or self.new_mountpoint()
        if store.access_key:
            self.environment.update(AWS_ACCESS_KEY_ID=store.access_key, AWS_SECRET_ACCESS_KEY=store.secret_key)
            flags = (*flags, "--region", "us-east-1")
        else:
            flags = (*flags, "--anonymous", "--region", "us-east-1")
        self.run(
            "mount", f"s3://{BUCKET}{prefix}", mountpoint, "--endpoint", store.endpoint, "--path-style", "on",
            "--cache-dir", f"{self.directory}/cache", "--cache-size", "8GiB", "--ram-size", "0", *flags)
        return mountpoint

    def umount(self, mountpoint):
        if os.path.ismount(mountpoint):
            self.run("umount", mountpoint)

    def status(self):
        status = json.loads(self.run("status", "--json"))
        self.coordinator = status["coordinator"]["pid"]
        return status

    def requests(self):
        """What the coordinator has asked of all stores since it started."""
        return sum(sum(store["requests"].values()) for store in self.status()["stores"])

    def pids(self):
        status = self.status()
        return [status["coordinator"]["pid"], *(mount["pid"] for mount in status["mounts"])]

    def processor_seconds(self):
        return processor_seconds(self.pids())

    def mode(self, path):
        """How an open file is read, by the mount's own word (docs/semantics.md, extended attributes)."""
        with open(path, "rb") as opened:
            try:
                return os.getxattr(opened.fileno(), "user.larder.mode").decode()
            except OSError as error:
                return f"unknown ({error.strerror})"

    def __exit__(self, *_):
        if self.coordinator is None:
            try:
                self.status()
            except Failure:
                pass
        for mountpoint in self.mountpoints:
            if os.path.ismount(mountpoint):
                subprocess.run(
                    [self.binary, "umount", mountpoint], env=self.environment, capture_output=True, check=False)
            if os.path.ismount(mountpoint):
                self.complain(f"larder umount {mountpoint} did not unmount it")
                unmount(mountpoint)
        self._wait_for_coordinator()
        if any(os.path.ismount(mountpoint) for mountpoint in self.mountpoints):
            self.complain(f"still mounted: something in {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_for_coordinator(self):
        """It leaves with its last mount."""
        gone = f"/proc/{self.coordinator}"
        deadline = time.monotonic() + 15
        while self.coordinator and os.path.exists(gone) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.coordinator and os.path.exists(gone):
            self.complain(f"the coordinator (pid {self.coordinator}) was still there 15 s after its last mount; killed")
            os.kill(self.coordinator, signal.SIGKILL)
