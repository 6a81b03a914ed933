"""Metadata: one key and the summary, with and without a cache, from a mock of Amazon EC2.

The service has a network namespace of its own and is reached over a pair of Ethernet interfaces:
the peer asks nobody on the loopback interface. Nobody listens on the Varlink socket, so each tool
does what it does in an initramfs: ours fetches by itself, the peer's starts systemd-imdsd.
"""

import os
import shutil
import subprocess

from rows import RUNS, row, spawn, wanted

ADDRESS = "169.254.169.254"


def bench(work, inside, enter, has_peer):
    names = ["imds: warm key", "imds: cold key, token", "imds: warm summary", "imds: cold summary"]
    names = [name for name in names if wanted(name)]
    if not names:
        return
    ours = enter + [str(inside / "slipway"), "imds"]
    theirs = enter + ["/usr/lib/systemd/systemd-imds"]
    with Service() as service:
        for name in names:
            tools = [(ours, inside), (theirs, inside)][: 1 + has_peer]
            figures = alternate(name, tools, work, service)
            row(name + (" + chroot" if enter else ""), *figures, *([] if has_peer else [[]]), "ms", 1000)
            if enter:
                # What entering the root directory costs is no property of either tool.
                bare = alternate(name, [([str(work / "slipway"), "imds"], work)], work, service)
                row(name, *bare, [], "ms", 1000)


def alternate(name, tools, work, service):
    """Wall seconds of each tool, which sees the work under a name of its own, in turn."""
    figures = [[] for _ in tools]
    arguments = ["/meta-data/hostname"] if "key" in name else []
    # Low source ports stay busy for a minute after the peer used them, and there are 1023.
    for index in range(max(RUNS, 30)):
        for number, (figure, (tool, seen)) in enumerate(zip(figures, tools)):
            cache = work / f"imds-{number}"
            if "cold" in name or index == 0:
                shutil.rmtree(cache, ignore_errors=True)
                cache.mkdir()
            environment = service.environment | {"RUNTIME_DIRECTORY": str(seen / cache.name)}
            if "warm" in name and index == 0:
                spawn(tool + arguments, environment)
            figure.append(spawn(tool + arguments, environment))
            if not any(cache.iterdir()):
                raise SystemExit(f"bench: {tool[-1]} keeps its cache elsewhere: no figure is true")
    return figures


class Service:
    """The mock, in a namespace beside ours where that may be, else on the loopback interface."""

    def __enter__(self):
        mock = [os.environ["MOCKCLOUD"], "--fixture", "amazon-ec2", "--environment", "--until-eof"]
        if os.geteuid() == 0:
            # It waits for its address, which needs its process.
            mock += ["--listen", f"{ADDRESS}:80"]
            mock = ["unshare", "-n", "sh", "-c", 'echo; read -r go && exec "$0" "$@"', *mock]
        else:
            mock += ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(mock, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if os.geteuid() == 0:
            self.process.stdout.readline()
            pid = str(self.process.pid)
            there = ["nsenter", "-n", "-t", pid]
            for command in (
                ["ip", "link", "add", "imds0", "type", "veth", "peer", "name", "cloud0", "netns", pid],
                ["ip", "address", "add", "169.254.169.1/24", "dev", "imds0"],
                ["ip", "link", "set", "imds0", "up"],
                [*there, "ip", "address", "add", f"{ADDRESS}/24", "dev", "cloud0"],
                [*there, "ip", "link", "set", "cloud0", "up"],
            ):
                subprocess.run(command, check=True)
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        self.environment = dict(os.environ)
        lines = iter(self.process.stdout.readline, "\n")
        self.environment |= dict(line.rstrip("\n").split("=", 1) for line in lines if "=" in line)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
