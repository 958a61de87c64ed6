"""Processes that read chunks are shielded from Ctrl-C from their first moment on."""

import re
import signal
import subprocess

from kneefair_jax.data.store import chunks


def test_a_process_that_starts_meanwhile_blocks_interrupts_alone():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with chunks._without_interrupts():
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert int(re.search(r"SigBlk:\s*(\w+)", status.stdout)[1], 16) == 1 << (signal.SIGINT - 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
