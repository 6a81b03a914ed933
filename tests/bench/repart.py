"""Time and memory of repart: images made side by side with systemd-repart.

Two images. One of 8 GiB, almost all of it a hole: what planning, tables and mkfs take. One of 4 GiB
whose file system is populated and protected by Verity: what copying and hashing take. Both
programs run the same mkfs tools, those in the peer's root directory. Environment: REPART_MIB
(3584) is the size of the tree, REPART_OFFLINE (auto) what both are told by --offline=,
REPART_FORMAT (ext4) the file system of the populated one.
"""

import hashlib
import os
import pathlib
import shutil

from rows import RUNS, row, wanted

MIB = int(os.environ.get("REPART_MIB", "3584"))
# As the peer works by itself: with loop devices and mounts where it may have them.
OFFLINE = os.environ.get("REPART_OFFLINE", "auto")
FORMAT = os.environ.get("REPART_FORMAT", "ext4")
SEED = "0123456789abcdef0123456789abcdef"

SPARSE = {
    "10-esp.conf": "[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=512M\nSizeMaxBytes=512M\n",
    "20-root.conf": "[Partition]\nType=root\nFormat=ext4\nSizeMinBytes=2G\nSizeMaxBytes=4G\n",
    "30-swap.conf": "[Partition]\nType=swap\nFormat=swap\nSizeMinBytes=1G\nSizeMaxBytes=1G\n",
    "40-home.conf": "[Partition]\nType=home\nFormat=ext4\n",
}

VERITY = {
    "10-root.conf": "[Partition]\nType=root\nFormat={format}\nCopyFiles=/\nVerity=data\n"
                    "VerityMatchKey=root\nSizeMinBytes={data}M\nSizeMaxBytes={data}M\n",
    "20-root-verity.conf": "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\n"
                           "SizeMinBytes={hash}M\nSizeMaxBytes={hash}M\n",
}

def noise(size, salt):
    """Bytes that neither a file system nor a compressor can shorten, the same in every run."""
    return hashlib.shake_128(salt.encode()).digest(size)

def make_tree(top):
    """A tree as an operating system has: many small files, some large, and a few very large ones.
    In bytes 20 % are in files of 4 to 64 KiB, 40 % in files of 1 MiB, 40 % in files of 64 MiB."""
    budget = MIB << 20
    block = noise(1 << 20, "block")
    count = 0
    for share, size in ((0.2, None), (0.4, 1 << 20), (0.4, 64 << 20)):
        left = int(budget * share)
        while left > 0:
            length = min(left, size or 4096 << count % 5)
            directory = top / "usr" / f"{count // 500:04}"
            directory.mkdir(parents=True, exist_ok=True)
            # No two files begin alike.
            head = noise(64, str(count))
            with open(directory / f"{count:07}", "wb") as file:
                file.write(head[:length])
                rest = length - min(length, 64)
                while rest > 0:
                    rest -= file.write(block[: min(rest, len(block))])
            left -= length
            count += 1
    return count

def compare(name, work, programs, arguments, measure):
    """Runs both programs alternately; each makes its image anew, and removes it."""
    figures = [[] for _ in programs]
    for _ in range(RUNS):
        for figure, (image, program) in zip(figures, programs):
            path = work / image
            path.unlink(missing_ok=True)
            os.sync()
            figure.append(measure(program(image) + arguments(image)))
            path.unlink()
    theirs = figures[1] if len(figures) > 1 else []
    for index, what, unit in ((0, "wall", "s"), (1, "cpu", "s"), (2, "peak", "MiB")):
        row(f"{name}: {what}", [f[index] for f in figures[0]], [f[index] for f in theirs], unit)

def bench(work, inside, enter, has_peer, measure):
    names = ("repart 8 GiB sparse", "repart 4 GiB verity")
    if not any(wanted(name) for name in names):
        return
    # Temporary trees and files of either program lie beside the image.
    temporary = ["env", f"TMPDIR={inside}"]
    ours = enter + temporary + [str(inside / "slipway"), "repart"]
    theirs = enter + temporary + ["/usr/bin/systemd-repart"]
    programs = [("ours.raw", lambda _: ours), ("theirs.raw", lambda _: theirs)][: 1 + has_peer]

    def arguments(directory, size, *more):
        def words(image):
            return [f"--definitions={inside / directory}", f"--seed={SEED}", "--empty=create",
                    f"--size={size}", f"--offline={OFFLINE}", "--dry-run=no", "--pretty=no",
                    *more, str(inside / image)]
        return words

    if wanted(names[0]):
        write(work / "sparse.d", SPARSE)
        compare(names[0], work, programs, arguments("sparse.d", "8G"), measure)
    if wanted(names[1]):
        tree = work / "tree"
        make_tree(tree)
        data = MIB + 384
        write(work / "verity.d", VERITY, format=FORMAT, data=data, hash=64)
        size = f"{data + 64 + 8}M"
        source = f"--copy-source={inside / 'tree'}"
        compare(names[1], work, programs, arguments("verity.d", size, source), measure)
        shutil.rmtree(tree)

def write(directory, files, **values):
    pathlib.Path(directory).mkdir()
    for name, text in files.items():
        (directory / name).write_text(text.format(**values))
