import io

import pytest

from kneefair_jax import safe_text
from kneefair_jax.runtime import progress
from kneefair_jax.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


def lines(stream, seconds, total, unit="cases"):
    """What a task writes that finishes a step at each of these seconds."""
    clock = Clock()
    task = Progress("reading", total, unit, stream=stream, clock=clock)
    for second in seconds:
        clock.now = 100.0 + second
        task.advance()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0m00s"), (59.6, "1m00s"), (65, "1m05s"), (3725, "1h02m05s")]
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (1, 100, 4.9, ""),
        (1, 100, 5, ", 8m15s left"),
        (50, 100, 60, ", 1m00s left"),
        (0, 9, 60, ""),
        (9, 9, 60, ""),
    ],
)
def test_the_time_left_is_that_of_the_mean_speed(done, total, seconds, text):
    assert progress.time_left(done, total, seconds) == text


def test_a_log_has_no_line_before_five_seconds_and_one_in_five_seconds():
    assert lines(io.StringIO(), [0.5 * k for k in range(10)], 10) == ""
    text = lines(io.StringIO(), range(1, 21), 40, "films")  # one step a second
    assert text.splitlines() == [
        "reading: 5/40 films, 0m35s left",
        "reading: 10/40 films, 0m30s left",
        "reading: 15/40 films, 0m25s left",
        "reading: 20/40 films, 0m20s left",
    ]


def test_a_terminal_has_one_line_that_changes():
    text = lines(Terminal(), [1, 5, 5.2, 6], 1000)
    assert text.count("\n") == 0
    assert [part.rstrip() for part in text.split("\r")] == [
        "",
        "reading: 2/1000 cases, 41m35s left",
        "reading: 4/1000 cases, 24m54s left",
    ]


def test_steps_that_cannot_be_counted_show_the_time_so_far():
    assert lines(io.StringIO(), [1, 70], 0) == "reading: 1m10s so far\n"


def test_a_terminal_s_line_is_cleared_at_the_end():
    clock, stream = Clock(), Terminal()
    with Progress("reading", 9, stream=stream, clock=clock) as task:
        clock.now += 6
        task.advance()
        width = len(stream.getvalue()) - 1
    assert stream.getvalue().endswith(f"\r{' ' * width}\r")


def test_items_pass_through_in_order_and_without_a_line_if_quick():
    stream = io.StringIO()
    assert list(progress.track(iter("abc"), 3, "reading", stream=stream)) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_names_cannot_control_a_terminal(capsys):
    clock = Clock()
    with safe_text.printable_output():
        task = Progress("reading \x1b[2J", 9, clock=clock)
        clock.now += 6
        task.advance()
    assert "\x1b" not in capsys.readouterr().err
