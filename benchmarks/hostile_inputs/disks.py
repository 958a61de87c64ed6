"""Output folders and streams that cannot be written, memory that runs out, and processes that share a folder."""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.hostile_inputs import Kind

Make = Callable[[Path], list[str]]

# Runs a module in this process after `{before}`; worker processes, which import this too, do not.
_WRAPPED = """
import os, resource, runpy, sys
if sys.argv[1] == "inside":
    module, sys.argv = sys.argv[2], sys.argv[2:]
    {before}
    runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_FILE_SIZE = "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
_OPEN_FILES = "resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"
_MEMORY = "resource.setrlimit(resource.RLIMIT_AS, ({0} << 20, {0} << 20))"
_FAIL = """
    import builtins, errno, pathlib
    real, count = os.{call}, [0]
    def fail(path, *words, **options):
        if "out" in str(path) and count[0] >= {after}:
            raise OSError(errno.{name}, os.strerror(errno.{name}), str(path))
        count[0] += "out" in str(path)
        return real(path, *words, **options)
    os.{call} = fail"""


def _films(folder: Path, count: int = 3) -> Path:
    rng = np.random.default_rng(0)
    films = folder / "films"
    films.mkdir()
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (60, 50), dtype=np.uint8)).save(films / f"{number}.png")
    return films


def _predict(folder: Path, *, images: str = "films", out: str = "out") -> list[str]:
    _films(folder)
    return [
        "kneefair_jax.predict",
        "--checkpoint",
        "phantom",
        "--images",
        images,
        "--out",
        out,
        "--batch-size",
        "1",
    ]


def _audit(folder: Path, *, out: str = "out") -> list[str]:
    rows = [f"c{n},p{n},{'fm'[n % 2]},femur,0.{80 + n}" for n in range(12)]
    (folder / "scores.csv").write_text("\n".join(["case_id,patient_id,sex,structure,dice", *rows, ""]))
    return [
        "kneefair_jax.audit",
        "--scores",
        "scores.csv",
        "--attributes",
        "sex",
        "--draws",
        "100",
        "--out",
        out,
    ]


def _phantom(folder: Path, *, out: str = "out/knee.png") -> list[str]:
    (folder / "out").mkdir(exist_ok=True)
    return ["kneefair_jax.data.phantom", "--knee", out, "--size", "16"]


_COMMANDS: dict[str, Callable[..., list[str]]] = {"predict": _predict, "audit": _audit, "phantom": _phantom}


def _plain(command: str, prepare: Callable[[Path], object] = lambda folder: None, **options: str) -> Make:
    """Return a kind that prepares the folder and runs the command as it is."""

    def make(folder: Path) -> list[str]:
        words = _COMMANDS[command](folder, **options)
        prepare(folder)
        return ["-m", *words]

    return make


def _wrapped(command: str, before: str, prepare: Callable[[Path], object] = lambda folder: None) -> Make:
    """Return a kind that runs the command in a process in which `before` was executed."""

    def make(folder: Path) -> list[str]:
        words = _COMMANDS[command](folder)
        prepare(folder)
        return ["-c", _WRAPPED.format(before=before), "inside", *words]

    return make


def _shell(command: str, line: str) -> Make:
    """Return a kind that runs a line of bash with the command as "$@"."""

    def make(folder: Path) -> list[str]:
        words = _COMMANDS[command](folder)
        code = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        return ["-c", code, "bash", "-c", line, "bash", sys.executable, "-m", *words]

    return make


def _file_at_out(folder: Path) -> None:
    (folder / "out").write_text("a file")


def _link(target: str, name: str = "out") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(target)

    return make


def _fifo(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)

    return make


def _folder(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).mkdir(parents=True)


def _locked(folder: Path) -> None:
    """Lock the folder by a process that outlives this one by the time that the command takes."""
    (folder / "out").mkdir()
    file = (folder / "out/.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    _HELD.append(file)


_HELD: list[object] = []
_CLOSED = '"$@" | true; test "${PIPESTATUS[0]}" = 141'
_HEAD = '"$@" | head -n 1; s="${PIPESTATUS[0]}"; test "$s" = 141 -o "$s" = 0'
# After the process handles SIGTERM (bit 14 of the mask), and the seconds.
_SIGNAL = (
    '"$@" & p=$!; until (( 0x$(grep SigCgt /proc/$p/status | cut -f2) >> 14 & 1 )); do sleep 0.02; done; '
    "sleep {0}; kill -{1} $p; wait $p; test $? = {2}"
)
_TWICE = '"$@" & "$@"; a=$?; wait $!; b=$?; test "$a$b" = 00 -o "$a$b" = 02 -o "$a$b" = 20'

KINDS = (
    # Places that are no folder to write to.
    *(
        Kind(f"{name}: --out is a file", _plain(name, _file_at_out), "refused", "--out")
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out below a file", _plain(name, _file_at_out, out="out/below"), "refused", "out")
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out is a link to nothing", _plain(name, _link("nowhere/deep")), "refused", "out")
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out is a link to itself", _plain(name, _link("out")), "refused", "out")
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out is a pipe", _plain(name, _fifo("out")), "refused", "out")
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out with a name of 300 characters", _plain(name, out="n" * 300), "refused", "name")
        for name in ("predict", "audit")
    ),
    *(
        Kind(
            f"{name}: --out on a read-only file system",
            _plain(name, out="/sys/kernel/out"),
            "reported",
            "--out",
        )
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: --out is a device", _plain(name, out="/dev/null"), "refused", "/dev/null")
        for name in ("predict", "audit")
    ),
    Kind("predict: --out is the folder of films", _plain("predict", out="films"), "refused", "--out"),
    Kind("predict: --out holds the folder of films", _plain("predict", out="."), "refused", "--out"),
    Kind(
        "predict: masks is a link out of --out",
        _plain("predict", _link("../films", "out/masks")),
        "refused",
        "masks",
    ),
    Kind(
        "predict: masks is a file",
        _plain("predict", lambda f: [_folder("out")(f), (f / "out/masks").write_text("")]),
        "refused",
        "masks",
    ),
    Kind(
        "predict: areas.csv is a folder", _plain("predict", _folder("out/areas.csv")), "refused", "areas.csv"
    ),
    Kind("predict: areas.csv is a pipe", _plain("predict", _fifo("out/areas.csv")), "refused", "areas.csv"),
    Kind("predict: .lock is a pipe", _plain("predict", _fifo("out/.lock")), "refused", ".lock"),
    Kind(
        "predict: a mask's place is a folder",
        _plain("predict", _folder("out/masks/1.png")),
        "reported",
        "1.png",
    ),
    Kind("audit: cases.csv is a folder", _plain("audit", _folder("out/cases.csv")), "refused", "cases.csv"),
    Kind(
        "audit: report.json is a link",
        _plain("audit", _link("../scores.csv", "out/report.json")),
        "refused",
        "report.json",
    ),
    Kind(
        "phantom: a picture in a folder that is absent",
        _plain("phantom", out="out/absent/knee.png"),
        "works",
    ),
    Kind(
        "phantom: a picture over a folder", _plain("phantom", _folder("out/knee.png")), "refused", "knee.png"
    ),
    Kind(
        "phantom: a picture without a known ending",
        _plain("phantom", out="out/knee.xyz"),
        "refused",
        "knee.xyz",
    ),
    Kind("phantom: size 0", lambda f: ["-m", *_phantom(f)[:-1], "0"], "refused", "--size"),
    Kind("phantom: size of a million", lambda f: ["-m", *_phantom(f)[:-1], "1000000"], "refused", "--size"),
    # Disks that fail.
    *(
        Kind(
            f"{name}: files of at most {size} bytes",
            _wrapped(name, _FILE_SIZE.format(size)),
            "reported",
            "out",
        )
        for name, size in (("predict", 700), ("predict", 2_000), ("audit", 20_000), ("phantom", 400))
    ),
    *(
        Kind(
            f"{name}: {error} at the first file",
            _wrapped(name, _FAIL.format(call="open", after=1, name=error)),
            "reported",
            "out",
        )
        for name in ("predict", "audit")
        for error in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE")
    ),
    *(
        Kind(
            f"predict: {error} after the first film",
            _wrapped("predict", _FAIL.format(call="open", after=8, name=error)),
            "reported",
            "out",
        )
        for error in ("ENOSPC", "EIO")
    ),
    Kind(
        "audit: ENOSPC in the middle of its files",
        _wrapped("audit", _FAIL.format(call="open", after=5, name="ENOSPC")),
        "reported",
        "out",
    ),
    *(
        Kind(f"{name}: at most 12 open files", _wrapped(name, _OPEN_FILES.format(12)), "works")
        for name in ("predict", "audit")
    ),
    # Streams.
    *(Kind(f"{name}: output into `true`", _shell(name, _CLOSED), "works") for name in ("predict", "audit")),
    *(
        Kind(f"{name}: output into `head -n 1`", _shell(name, _HEAD), "works")
        for name in ("predict", "audit")
    ),
    *(
        Kind(
            f"{name}: standard output to /dev/full", _shell(name, '"$@" > /dev/full'), "reported", "no space"
        )
        for name in ("predict", "audit")
    ),
    *(
        Kind(f"{name}: closed standard streams", _shell(name, '"$@" <&- >&- 2>&-'), "works")
        for name in ("predict", "audit", "phantom")
    ),
    Kind(
        "audit: --help into `true`",
        lambda f: _shell("audit", '"$@" --help | true; s="${PIPESTATUS[0]}"; test "$s" = 141 -o "$s" = 0')(f),
        "works",
    ),
    # Signals.
    *(
        Kind(
            f"{name}: {number} after {seconds} s",
            _shell(name, _SIGNAL.format(seconds, number, status)),
            "works",
            line,
        )
        for name, seconds in (("predict", 0.5), ("predict", 2), ("audit", 0.5), ("phantom", 0.5))
        for number, status, line in (("TERM", 75, "preempted"),)
    ),
    # Memory.
    *(
        Kind(f"{name}: {size} MiB of address space", _wrapped(name, _MEMORY.format(size)), "reported")
        for name, size in (("audit", 500),)
    ),
    # Several processes.
    Kind("predict: another process holds --out", _plain("predict", _locked), "refused", "another process"),
    *(
        Kind(f"{name}: two at once with one --out", _shell(name, _TWICE), "works")
        for name in ("predict", "audit")
    ),
)
