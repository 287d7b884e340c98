"""Larder as a node has it: one coordinator with a cache of its own, and mounts."""
import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

from .processes import Failure, processor_seconds, run, unmount
from .stores import BUCKET


Process = collections.namedtuple("Process", ["pid", "name"])


class LarderNode:
    """A context manager; at its end mounts, coordinator, cache and directory are gone.

    Its coordinator is found by XDG_RUNTIME_DIR: the one of whoever runs the script, and their cache, are not touched.
    """

    def __init__(self, binary, directory, complain):
        self.binary = binary
        self.directory = directory
        self.complain = complain
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
        return json.loads(self.run("status", "--json"))

    def requests(self):
        """What the coordinator has asked of all stores since it started."""
        return sum(sum(store["requests"].values()) for store in self.status()["stores"])

    def pids(self):
        status = self.status()
        return [status["coordinator"]["pid"], *(mount["pid"] for mount in status["mounts"])]

    def processor_seconds(self):
        return processor_seconds(self.pids())

    def peak_memory(self):
        """The most that the processes have had resident, in bytes (VmHWM, proc(5))."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
                total += next((int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")), 0)
        return total

    def mode(self, path):
        """How an open file is read, by the mount's own word (docs/semantics.md, extended attributes)."""
        with open(path, "rb") as opened:
            try:
                return os.getxattr(opened.fileno(), "user.larder.mode").decode()
            except OSError as error:
                return f"unknown ({error.strerror})"

    def __exit__(self, *_):
        deadline = time.monotonic() + 15
        told = set()
        # Again and again: when a mount was interrupted, it may appear only now.
        while (left := self.processes()) and time.monotonic() < deadline:
            self._unmount_all()
            # The coordinator would leave by itself, but only after seconds in which another mount might come.
            for pid in {process.pid for process in left} - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                told.add(pid)
            time.sleep(0.02)
        self._unmount_all()
        for process in left:
            self.complain(f"{process.name} (pid {process.pid}) was still there 15 s after SIGTERM; killed")
            os.kill(process.pid, signal.SIGKILL)
        for mountpoint in filter(os.path.ismount, self.mountpoints):
            self.complain(f"larder umount {mountpoint} did not unmount it")
            unmount(mountpoint)
        if not any(map(os.path.ismount, self.mountpoints)):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _unmount_all(self):
        for mountpoint in filter(os.path.ismount, self.mountpoints):
            subprocess.run([self.binary, "umount", mountpoint], env=self.environment, capture_output=True, check=False)

    def processes(self):
        """The programs of this node that run: all inherit where its socket is."""
        mark = f"XDG_RUNTIME_DIR={self.directory}/run".encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/environ", "rb") as environment:
                    if mark not in environment.read().split(b"\0"):
                        continue
                with open(f"/proc/{pid}/cmdline", "rb") as arguments:
                    name = b" ".join(arguments.read().split(b"\0")[:2]).decode(errors="replace")
                found.append(Process(int(pid), name))
        return found
