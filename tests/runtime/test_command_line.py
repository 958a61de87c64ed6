import logging
import os
import sys

import pytest

from kneefair_jax.audit import cli as audit
from kneefair_jax.export import __main__ as export
from kneefair_jax.predict import cli as predict
from kneefair_jax.runtime import command_line

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
    assert command_line.integer(-1, 1)("-1") == -1


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
    with command_line.log_to_terminal(), command_line.log_to_terminal():
        log_one_of_each()
    out, err = capsys.readouterr()
    assert out == "step 1: 50 % done\nnote: two\nlines\n" and err == "failed: a.png\n"
    assert not caplog.records  # the handlers of the root logger, as absl's, print nothing a second time
    log_one_of_each()
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("kneefair_jax").handlers == handlers


def test_messages_follow_a_redirected_stream(capsys, monkeypatch):
    """As of a process that is not the primary one, whose stdout is the null device."""
    with command_line.log_to_terminal(), open(os.devnull, "w") as null:
        monkeypatch.setattr(sys, "stdout", null)
        logger.info("step 1")
    assert capsys.readouterr().out == ""


def test_a_closed_pipe_is_the_error_of_the_command():
    """`logging` would print its traceback and continue; `runtime.command` ends with its own status."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream, open(os.devnull, "w") as null:
        with command_line.log_to_terminal(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            with pytest.raises(BrokenPipeError):
                logger.info("step 1")
        os.dup2(null.fileno(), writing)  # closing the stream writes what is left
