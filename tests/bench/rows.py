"""What all benchmarks share: running a command, and one line of figures."""

import os
import pathlib
import statistics
import time

RUNS = int(os.environ.get("RUNS", "5"))
CASES = os.environ.get("CASES", "").split()

# Where commands say why they failed.
LOG = "/dev/null"


def wanted(name):
    return not CASES or any(word in name for word in CASES)


def spawn(command, environment=None):
    """Runs a command: wall seconds. posix_spawn, because a fork of this process costs more."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
    ]
    environment = os.environ if environment is None else environment
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"bench: {' '.join(command)}: status {status}:\n{pathlib.Path(LOG).read_text()}")
    return wall


def row(name, ours, theirs, unit="s", scale=1):
    mine = statistics.median(ours) * scale
    text = f"{name:30} {mine:10.3f} {unit:3}"
    if theirs:
        other = statistics.median(theirs) * scale
        text += f" {other:10.3f} {unit:3} {mine / other:8.3f}"
    print(text, flush=True)
