"""The hosts of one run: how they find each other, which of them writes, and where they wait for one another.

Every host runs the same program on its share of each batch; `jax.distributed` connects them. All of them see one file
system: the first one writes what a person reads, and checkpoints are written by all together (orbax).
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import preemption

_LOGGER = logging.getLogger(__name__)
_LONGEST = 4096  # bytes of a refusal that all hosts repeat
_PATIENCE = 10  # seconds
_CONNECT = 60  # seconds that processes wait for each other at the start
_MOST = 65_536  # processes


def start(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Connects this process to the others of its run; to be called before anything else asks JAX for its devices.

    Without arguments JAX finds them by itself under SLURM, Open MPI, Kubernetes (JobSet) and on Cloud TPUs.

    Args:
        coordinator: `host:port` of the first process, which the others can reach.
        processes: how many there are.
        process: which of them this is, from 0.

    Raises:
        InputError: the arguments are incomplete, or there is nothing that JAX could find the others by.
    """
    if coordinator:
        _check_address(coordinator, processes, process)
        where = f"the coordinator {coordinator}" if process else f"the other processes ({processes - 1})"
        _LOGGER.info(f"waiting up to {_CONNECT} s for {where}")
        if process:
            _await_port(coordinator)
    try:
        if coordinator:
            with _deadline(coordinator, processes):
                jax.distributed.initialize(
                    coordinator, processes, process, initialization_timeout=2 * _CONNECT
                )
        else:
            jax.distributed.initialize()
    except ValueError as error:
        raise InputError(
            f"--distributed found no cluster here ({error}); give --coordinator=HOST:PORT --processes=n --process=i"
        ) from error
    if jax.process_count() > 1:
        preemption.share_notices()
    if not is_primary():
        # What all of them would say, one says.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open as long as the process


def _check_address(coordinator: str, processes: int, process: int) -> None:
    """Refuse what is no `host:port`, and numbers of processes that cannot be."""
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536):
        raise InputError(f"--coordinator={coordinator}: give HOST:PORT with a port from 1 to 65,535")
    if not 0 <= process < processes <= _MOST:
        raise InputError(
            f"--coordinator={coordinator} needs --processes=n, from 1 to {_MOST:,}, and --process=i, from 0 to n - 1; "
            f"they are {processes} and {process}"
        )


@contextlib.contextmanager
def _deadline(coordinator: str, processes: int) -> Iterator[None]:
    """End this process with one line after `_CONNECT` seconds: JAX's own time-out aborts it with a stack trace."""

    def give_up() -> None:
        _LOGGER.error(
            f"error: --coordinator={coordinator}: not all {processes} processes connected within {_CONNECT} s; start "
            "them within that time, --process=0 on the host of the coordinator"
        )
        os._exit(2)

    timer = threading.Timer(_CONNECT, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _await_port(coordinator: str) -> None:
    """Wait until the coordinator's port takes connections: JAX, which fails to connect, aborts the process.

    Raises:
        InputError: it takes none for `_CONNECT` seconds, or there is no such host.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _CONNECT
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                raise InputError(
                    f"--coordinator={coordinator} does not answer ({describe(error)}); start --process=0 on that host "
                    f"within {_CONNECT} s, and see that its port can be reached"
                ) from error
        time.sleep(0.5)


def is_primary() -> bool:
    """Whether this host is the one that writes."""
    return jax.process_index() == 0


def barrier(for_what: str) -> None:
    """Returns when every host has come to the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(for_what)


def run_on_primary(do: Callable[[], object]) -> None:
    """Runs it on the first host; what that refuses, every host refuses.

    Raises:
        InputError: of the first host.
    """
    refusal = ""
    if is_primary():
        try:
            do()
        except InputError as error:
            refusal = str(error)
    if jax.process_count() > 1:
        text = np.frombuffer(refusal.encode()[:_LONGEST].ljust(_LONGEST), np.uint8)
        refusal = bytes(multihost_utils.broadcast_one_to_all(text)).decode(errors="ignore").rstrip()
    if refusal:
        raise InputError(refusal)


def peer_failure(error: BaseException) -> str | None:
    """What to say of an error that another process's end has caused; None if it was something else."""
    words = ("Gloo", "NCCL", "Connection closed", "Connection reset", "coordination service", "UNAVAILABLE")
    if not jax.distributed.is_initialized() or not any(word in str(error) for word in words):
        return None
    return f"another process of this run is gone ({describe(error)})"


def exit_process(status: int, *, together: bool = False) -> NoReturn:
    """Ends the process: at once where others might be waited for that are gone.

    Args:
        status: of the process.
        together: whether the others are probably leaving, too: whoever is first to go takes those along who are not.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        if together:
            from orbax.checkpoint import multihost  # whose barrier, unlike JAX's public one, gives up

            with contextlib.suppress(Exception):  # they work on, and will notice
                multihost.get_barrier_sync_fn()(key="leaving", timeout_ms=1000 * _PATIENCE)
                time.sleep(
                    is_primary()
                )  # without the first host, which connects them, the others would be aborted
        os._exit(status)
    sys.exit(status)
