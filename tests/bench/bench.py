"""Time and memory of slipway, side by side with the real systemd in one run.

usage: bench.py BINARY [PEER]

PEER is the root directory of a system with systemd 262 (root needed to enter it). Both programs
run inside it on the same file system, alternately, with warm caches; each figure is the median of
RUNS runs, and the peak memory is that of the largest single process. Environment: RUNS (5),
MIB (512), REPART_MIB (3584), CASES (words to select rows).
"""

import functools
import hashlib
import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import imds
import repart
import rows
from rows import RUNS, row, spawn, wanted

MIB = int(os.environ.get("MIB", "512"))
SLOT_MIB = MIB + 8

TRANSFER = """[Transfer]
Verify=no
[Source]
Type={kind}
Path={source}
MatchPattern=root_@v.raw{suffix}
[Target]
Type=partition
Path={disk}
MatchPattern=root_@v
MatchPartitionType=root-x86-64
"""

COMPRESSORS = {
    "raw": ("", None),
    "zstd": (".zst", ["zstd", "-q", "-10", "-T2", "-c"]),
    "xz": (".xz", ["xz", "-3", "-T1", "--block-size=12MiB", "-c"]),
    "xz-single": (".xz", ["xz", "-3", "-T1", "-c"]),
    "gzip": (".gz", ["gzip", "-6", "-c"]),
}


def measure(command):
    """Runs a command: wall seconds, CPU seconds, peak memory in MiB of the largest process."""
    # GNU time starts it, because a child's peak begins with that of the process it was forked from.
    wall = spawn(["time", "-q", "-o", rows.LOG + ".time", "-f", "%U %S %M", *command])
    user, system, peak = map(float, pathlib.Path(rows.LOG + ".time").read_text().split())
    return wall, user + system, peak / 1024


def make_image(path):
    """An ext4 image, half of it empty, the rest as compressible as programs are."""
    tree = path.parent / "tree"
    tree.mkdir(exist_ok=True)
    want, have = MIB * 1024 * 1024 // 2, 0
    for place in ("/usr/bin", "/usr/lib"):
        for directory, _, names in os.walk(place):
            for name in names:
                file = pathlib.Path(directory, name)
                if have >= want:
                    break
                if file.is_symlink() or not file.is_file():
                    continue
                data = file.read_bytes()[: want - have]
                (tree / f"{have:012}").write_bytes(data)
                have += len(data)
    path.unlink(missing_ok=True)
    with open(path, "wb") as image:
        image.truncate(MIB * 1024 * 1024)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-d", str(tree), str(path)], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(tree)


def make_disk(path):
    """A GPT disk with two free slots."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as disk:
        disk.truncate((2 * SLOT_MIB + 2) * 1024 * 1024)
    root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    script = "label: gpt\n" + f'size={SLOT_MIB}MiB, type={root}, name="_empty"\n' * 2
    subprocess.run(
        ["sfdisk", "-q", "--no-tell-kernel", str(path)], input=script.encode(), check=True,
        stdout=subprocess.DEVNULL,
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        outputfile.flush()
        self.connection.sendfile(source)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that looks at the head of an answer and leaves is no error."""


def serve(directory):
    handler = functools.partial(Quiet, directory=str(directory))
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    peer = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    if peer is not None and os.geteuid() != 0:
        raise SystemExit("bench: entering the peer's root directory needs root")
    # The work lies inside the peer's root, so that both see it by the same path.
    base = (peer or pathlib.Path(tempfile.gettempdir())) / "var/tmp"
    base.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench.", dir=base))
    rows.LOG = str(work / "log")
    inside = pathlib.Path("/", work.relative_to(peer)) if peer else work
    try:
        shutil.copy2(binary, work / "slipway")
        enter = ["chroot", str(peer)] if peer else []
        if peer:
            # run.sh gave us a mount namespace of our own: these vanish with it.
            # Who makes a namespace of its own there wants the root to be a mount point.
            subprocess.run(["mount", "--bind", str(peer), str(peer)], check=True)
            for name in ("proc", "dev", "sys"):
                subprocess.run(["mount", "--rbind", f"/{name}", str(peer / name)], check=True)
        bench(work, inside, enter, bool(peer))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def bench(work, inside, enter, has_peer):
    ours = enter + [str(inside / "slipway"), "update"]
    theirs = enter + ["/usr/lib/systemd/systemd-sysupdate"]
    print(f"{'':30} {'slipway':>14}" + (f" {'systemd':>14} {'ratio':>8}" if has_peer else ""))

    if wanted("startup"):
        version = enter + [str(inside / "slipway"), "--version"]
        pairs = [(spawn(version), spawn(theirs + ["--version"]) if has_peer else 0)
                 for _ in range(max(RUNS, 100))]
        name = "startup: --version" + (" + chroot" if enter else "")
        row(name, [a for a, _ in pairs], [b for _, b in pairs] if has_peer else [], "ms", 1000)
        bare = [str(work / "slipway"), "--version"]
        row("startup: --version", [spawn(bare) for _ in range(200)], [], "ms", 1000)

    imds.bench(work, inside, enter, has_peer)
    repart.bench(work, inside, enter, has_peer, measure)

    if not any(wanted(kind) for kind in ("file", "http", "manifest")):
        return
    image = work / "image"
    make_image(image)
    for word, (suffix, command) in COMPRESSORS.items():
        names = [f"file {word}", f"http {word}"]
        if not any(wanted(name) for name in names):
            continue
        source = work / word
        source.mkdir()
        payload = source / f"root_2.raw{suffix}"
        if command is None:
            shutil.copy2(image, payload)
        else:
            with open(image, "rb") as data, open(payload, "wb") as out:
                subprocess.run(command, stdin=data, stdout=out, check=True)
        digest = hashlib.sha256(payload.read_bytes()).hexdigest()
        (source / "SHA256SUMS").write_text(f"{digest}  {payload.name}\n")
        port = serve(source)
        for name in names:
            if not wanted(name):
                continue
            definitions = work / name.replace(" ", "-")
            definitions.mkdir()
            is_http = name.startswith("http")
            (definitions / "10-root.transfer").write_text(TRANSFER.format(
                kind="url-file" if is_http else "regular-file",
                source=f"http://127.0.0.1:{port}" if is_http else inside / word,
                suffix=suffix, disk=inside / "disk"))
            arguments = [f"--definitions={inside / definitions.name}", "update"]
            figures = ([], [])
            for _ in range(RUNS):
                for figure, program in zip(figures, [ours, theirs][: 1 + has_peer]):
                    make_disk(work / "disk")
                    os.sync()
                    figure.append(measure(program + arguments))
            for index, what, unit in ((0, "wall", "s"), (1, "cpu", "s"), (2, "peak", "MiB")):
                row(f"{name}: {what}", [f[index] for f in figures[0]],
                    [f[index] for f in figures[1]], unit)
        shutil.rmtree(source)

    for count, compare in ((3000, has_peer), (70000, False)):
        if not wanted("manifest"):
            break
        source = work / f"manifest-{count}"
        source.mkdir()
        (source / "SHA256SUMS").write_text(
            "".join(f"{hashlib.sha256(str(i).encode()).hexdigest()}  root_{i}.raw\n" for i in range(count)))
        definitions = work / f"manifest-{count}.d"
        definitions.mkdir()
        (work / "target").mkdir(exist_ok=True)
        text = TRANSFER.format(kind="url-file", source=f"http://127.0.0.1:{serve(source)}", suffix="",
                               disk=inside / "target")
        (definitions / "10-root.transfer").write_text(
            text.replace("Type=partition", "Type=regular-file").replace("MatchPartitionType=root-x86-64\n", ""))
        arguments = [f"--definitions={inside / definitions.name}", "list"]
        row(f"manifest of {count} entries", [spawn(ours + arguments) for _ in range(RUNS)],
            [spawn(theirs + arguments) for _ in range(RUNS)] if compare else [])


main()
