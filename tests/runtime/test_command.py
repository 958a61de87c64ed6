"""How commands end: status and line of each cause, in this process by `signal.raise_signal` and in new ones."""

import errno
import logging
import os
import resource
import signal
import subprocess
import sys

import jax
import pytest

from kneefair_jax.audit import cli as audit
from kneefair_jax.errors import InputError
from kneefair_jax.export import __main__ as export
from kneefair_jax.predict import cli as predict
from kneefair_jax.runtime import command, preemption

REMEDIES = command.Remedies("--out", "give a smaller --batch-size", lambda: "the same command resumes")


def raising(error):
    def body():
        raise error

    return body


def signaled(number):
    def body():
        signal.raise_signal(number)
        return 0

    return body


ENDINGS = {
    "done": (lambda: 0, 0, ""),
    "some failed": (lambda: 1, 1, ""),
    "bad input": (raising(InputError("a.png: bad")), 2, "error: a.png: bad\n"),
    "Ctrl-C": (signaled(signal.SIGINT), 130, "interrupted; the same command resumes\n"),
    "SIGTERM": (signaled(signal.SIGTERM), 75, "preempted; the same command resumes\n"),
    "SIGUSR1": (signaled(signal.SIGUSR1), 75, "preempted; the same command resumes\n"),
    "full disk": (
        raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/a.png")),
        1,
        "error: /out/a.png: no space left on device; free space on the disk; the same command resumes\n",
    ),
    "quota": (
        raising(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/out/a")),
        1,
        "error: /out/a: disk quota",
    ),
    "read-only": (raising(OSError(errno.EROFS, "", "/out/a")), 1, "error: /out/a: read-only file system"),
    "memory": (raising(MemoryError()), 1, "error: out of memory; give a smaller --batch-size"),
    "C++ memory": (raising(RuntimeError("std::bad_alloc")), 1, "error: out of memory; give a smaller"),
    "XLA memory": (
        raising(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")),
        1,
        "error: out of memory; give a smaller",
    ),
    "another process": (raising(command.CommandError("a peer ended")), 1, "error: a peer ended; the same"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_status_and_line(name, capsys):
    body, status, line = ENDINGS[name]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    assert command.run(body, REMEDIES) == status
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == bool(line)
    assert handlers == [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    ]
    preemption.check()  # the signal is over with the command


@pytest.mark.parametrize(
    "error", [ValueError("bug"), FileNotFoundError(errno.ENOENT, "no", "/tmp/x"), BrokenPipeError()]
)
def test_a_bug_stays_a_traceback(error):
    with pytest.raises(type(error)):
        command.run(raising(error), REMEDIES)


def test_an_error_that_a_library_makes_of_an_interrupt_counts_as_one():
    def body():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("cannot read") from None

    assert command.run(body, REMEDIES) == 130


def test_a_repeated_notice_does_not_disturb_the_saving():
    saved = []

    def body():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            saved.append("all")

    assert command.run(body, REMEDIES) == 75 and saved == ["all"]


def test_signals_that_are_ignored_stay_so():
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command.run(signaled(signal.SIGTERM), REMEDIES) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)


PROGRAM = """
import sys, signal, time
from kneefair_jax.runtime import command
REMEDIES = command.Remedies("--out", "", lambda: "the same command resumes")
def body():
    {}
    return 0
command.exit_process(command.run(body, REMEDIES))
"""


def start(body, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(body)], **options)


def test_a_second_interrupt_ends_the_process_at_once():
    process = start("""
    try:
        print("ready", flush=True); time.sleep(60)
    finally:
        print("saving", flush=True); time.sleep(60)""")
    for word in (b"ready\n", b"saving\n"):
        assert process.stdout.readline() == word
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    process.communicate()


def test_an_interrupt_while_the_interpreter_ends_changes_nothing():
    process = start("""
    import os

    class Last:  # deleted with its module, after Python has restored the handlers that are functions
        def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
            for _ in range(2):
                kill(process, number)

    sys.modules["__main__"].last = Last()
    print("done")""")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, b"done\n", b"")


def test_an_interrupt_within_eval_ends_a_module_with_its_own_status(tmp_path):
    """As of the many named tuples that an import makes; Python would end as if SIGINT had killed it."""
    (tmp_path / "program.py").write_text(PROGRAM.format("""eval("signal.raise_signal(signal.SIGINT)")"""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    words = [sys.executable, "-m", "program"]
    result = subprocess.run(words, capture_output=True, env=environment)
    assert result.returncode == 130 and result.stderr.count(b"\n") == 1


def test_a_closed_pipe_is_silent():
    process = start("sys.stdin.readline(); print('x' * 10**6)", stdin=subprocess.PIPE)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(b"\n")
    assert (process.returncode, err) == (141, b"")


@pytest.mark.linux
def test_output_to_a_full_device_is_a_line():
    with open("/dev/full", "w") as full:
        process = start("print('x')", stdout=full)
        _, err = process.communicate()
    assert (
        process.returncode == 1
        and err.startswith(b"error: no space left on device")
        and err.count(b"\n") == 1
    )


def test_closed_standard_streams_are_no_files_of_the_command(tmp_path):
    code = f"open({str(tmp_path / 'a')!r}, 'w').write('mine'); print('x'); print('y', file=sys.stderr)"
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", PROGRAM.format(code)]
    assert subprocess.run(words).returncode == 0 and (tmp_path / "a").read_text() == "mine"


def test_the_module_imports_nothing_that_takes_seconds():
    code = "from kneefair_jax.runtime import command; import sys; sys.exit(bool({'jax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("limit", "is_memory"), [(2**33, True), (resource.RLIM_INFINITY, False)])
def test_c_code_that_fails_without_a_reason_under_a_limit_of_memory(limit, is_memory, monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    body = raising(SystemError("error return without exception set"))
    if is_memory:
        assert command.run(body, REMEDIES) == 1
        assert "out of memory" in capsys.readouterr().err
    else:
        with pytest.raises(SystemError):
            command.run(body, REMEDIES)


def test_without_memory_the_process_ends_without_exit_functions():
    script = """
import atexit, sys
from kneefair_jax.runtime import command
def body():
    raise MemoryError
atexit.register(print, "an exit function")
remedies = command.Remedies("--out", "give a smaller --batch-size", lambda: "the same command starts again")
command.exit_process(command.run(body, remedies))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: out of memory") and result.stderr.count("\n") == 1


def test_a_later_command_ends_as_usual():
    assert command.run(raising(MemoryError()), REMEDIES) == 1
    assert any(command._memory_exhausted)
    assert command.run(lambda: 0, REMEDIES) == 0
    assert not any(command._memory_exhausted)


PREDICT = ["--checkpoint", "phantom", "--images", "a.png", "--out", "out"]
AUDIT = ["--scores", "a.csv", "--attributes", "sex", "--out", "out"]
BATCHES = ("0", "-1", "1000000", "x", "2.5", "9" * 5000)


@pytest.mark.parametrize(
    ("parser", "argv", "flag"),
    [
        *((predict.parser, [*PREDICT, "--batch-size", text], "--batch-size") for text in BATCHES),
        *((audit.parser, [*AUDIT, "--draws", text], "--draws") for text in ("39", "100000000", "nan")),
        *((audit.parser, [*AUDIT, "--seed", text], "--seed") for text in ("-1", str(2**32))),
        (audit.parser, [*AUDIT, "--min-group-patients", "0"], "--min-group-patients"),
        (audit.parser, AUDIT[:-2], "--out"),
    ],
)
def test_a_flag_out_of_its_range_is_one_line_and_status_2(parser, argv, flag, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(argv)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and err.startswith("error: ") and flag in err


def test_numbers_in_the_range_are_taken():
    assert predict.parser().parse_args([*PREDICT, "--batch-size", "1024"]).batch_size == 1024
    options = audit.parser().parse_args([*AUDIT, "--draws", "40", "--seed", str(2**32 - 1)])
    assert (options.draws, options.seed) == (40, 2**32 - 1)
    assert command.integer(-1, 1)("-1") == -1


@pytest.mark.parametrize("name", ["../escaped", "a/b", "", "a\nb", "x" * 300, ".."])
def test_weights_are_named_by_a_plain_name(tmp_path, capsys, name):
    assert export.main([str(tmp_path), "--name", name]) == 2
    assert "--name" in capsys.readouterr().err and not list(tmp_path.iterdir())


logger = logging.getLogger("kneefair_jax.runtime.example")


def log_one_of_each():
    logger.debug("hidden")
    logger.info("step 1: 50 % done")
    logger.warning("note: two\nlines")
    logger.error("failed: a.png")


def test_messages_are_printed_bare_and_once(capsys, caplog):
    handlers = logging.getLogger("kneefair_jax").handlers[:]
    with command.log_to_terminal(), command.log_to_terminal():
        log_one_of_each()
    out, err = capsys.readouterr()
    assert out == "step 1: 50 % done\nnote: two\nlines\n" and err == "failed: a.png\n"
    assert not caplog.records  # the handlers of the root logger, as absl's, print nothing a second time
    log_one_of_each()
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("kneefair_jax").handlers == handlers


def test_messages_follow_a_redirected_stream(capsys, monkeypatch):
    """As of a process that is not the primary one, whose stdout is the null device."""
    with command.log_to_terminal(), open(os.devnull, "w") as null:
        monkeypatch.setattr(sys, "stdout", null)
        logger.info("step 1")
    assert capsys.readouterr().out == ""


def test_a_closed_pipe_is_the_error_of_the_command():
    """`logging` would print its traceback and continue; `runtime.command` ends with its own status."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream, open(os.devnull, "w") as null:
        with command.log_to_terminal(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            with pytest.raises(BrokenPipeError):
                logger.info("step 1")
        os.dup2(null.fileno(), writing)  # closing the stream writes what is left
