"""Starting programs so that none is left, and looking at what they use."""
import os
import subprocess

import s3_gateway

# A read that takes longer hangs; the object is 1 GiB at most and the slowest system reads 50 MB/s.
PATIENCE = 300


class Failure(Exception):
    """One system could not be measured; the others go on."""


def run(arguments, what=None, environment=None, patience=PATIENCE):
    """The standard output of a program that must succeed."""
    try:
        process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", preexec_fn=s3_gateway.die_with_parent)
    except OSError as error:
        raise Failure(f"{arguments[0]}: {error.strerror}") from error
    try:
        out, problem = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{what or arguments[0]} did not end in {patience} s") from error
    finally:
        # Not killed at once: `larder mount` takes back what it has started.
        stop(process)
    if process.returncode != 0:
        lines = (problem.strip() or out.strip() or "no message").splitlines()
        raise Failure(f"{what or arguments[0]} exited with {process.returncode}: {lines[-1]}")
    return out


def start(arguments, log, environment=None):
    """A server, in the foreground of a session of its own: a Ctrl-C is for the script, which then ends it in order."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            preexec_fn=s3_gateway.die_with_parent)


def stop(process):
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log):
    with open(log, encoding="utf-8", errors="replace") as opened:
        lines = opened.read().strip().splitlines()
    return lines[-1] if lines else "no message"


def unmount(mountpoint):
    """For a mount that its own program has left behind."""
    if not os.path.ismount(mountpoint):
        return
    for command in (["fusermount3", "-u", "-z", mountpoint], ["umount", "-l", mountpoint]):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return


def processor_seconds(pids):
    """User and system time that these processes have used, from /proc/PID/stat (proc(5)); in steps of 10 ms."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                # The name, in parentheses, may hold spaces: count from its end.
                fields = stat.read().rpartition(")")[2].split()
        except OSError as error:
            raise Failure(f"process {pid} has gone") from error
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
