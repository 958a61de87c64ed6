"""Several processes of one run: connection, the primary process, barriers, and lost peers.

Every process runs the same program on its share of each batch; `jax.distributed` connects them. They share a file
system: the primary process writes tables and reports, and all processes write checkpoints together (orbax).
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

logger = logging.getLogger(__name__)
_MAX_MESSAGE_BYTES = 4096  # of an error that all processes raise
_EXIT_TIMEOUT = 10  # seconds to wait for peers before exiting
_CONNECT_TIMEOUT = 60  # seconds to wait for peers at the start
_MAX_PROCESSES = 65_536


def start(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Connect this process to its peers; call this before any other use of JAX's devices.

    Without arguments JAX detects SLURM, Open MPI, Kubernetes (JobSet) and Cloud TPUs.

    Args:
        coordinator: `host:port` of the primary process, reachable by the others.
        processes: the number of processes.
        process: the index of this process, from 0.

    Raises:
        InputError: the arguments are incomplete, or JAX detects no cluster.
    """
    if coordinator:
        _check_address(coordinator, processes, process)
        peers = f"the coordinator {coordinator}" if process else f"the other processes ({processes - 1})"
        logger.info(f"waiting up to {_CONNECT_TIMEOUT} s for {peers}")
        if process:
            _await_port(coordinator)
    try:
        if coordinator:
            with _deadline(coordinator, processes):
                jax.distributed.initialize(
                    coordinator, processes, process, initialization_timeout=2 * _CONNECT_TIMEOUT
                )
        else:
            jax.distributed.initialize()
    except ValueError as error:
        raise InputError(
            f"--distributed: JAX detects no cluster ({error}); give --coordinator=HOST:PORT --processes=n --process=i"
        ) from error
    if jax.process_count() > 1:
        preemption.share_notices()
    if not is_primary():
        # The primary process alone prints messages.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open until the process ends


def _check_address(coordinator: str, processes: int, process: int) -> None:
    """Refuse malformed addresses and impossible numbers of processes."""
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536):
        raise InputError(f"--coordinator={coordinator}: give HOST:PORT with a port from 1 to 65,535")
    if not 0 <= process < processes <= _MAX_PROCESSES:
        raise InputError(
            f"--coordinator={coordinator} needs --processes=n, from 1 to {_MAX_PROCESSES:,}, and --process=i, "
            f"from 0 to n - 1; they are {processes} and {process}"
        )


@contextlib.contextmanager
def _deadline(coordinator: str, processes: int) -> Iterator[None]:
    """End this process with one line at the time-out: JAX's own time-out aborts it with a stack trace."""

    def exit_with_error() -> None:
        logger.error(
            f"error: --coordinator={coordinator}: not all {processes} processes connected within {_CONNECT_TIMEOUT} s; "
            "start them within that time, --process=0 on the host of the coordinator"
        )
        os._exit(2)

    timer = threading.Timer(_CONNECT_TIMEOUT, exit_with_error)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _await_port(coordinator: str) -> None:
    """Wait until the coordinator's port accepts connections: if it does not, JAX aborts the process.

    Raises:
        InputError: the port accepts no connection before the time-out, or the host does not exist.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _CONNECT_TIMEOUT
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                raise InputError(
                    f"--coordinator={coordinator} does not answer ({describe(error)}); start --process=0 on that host "
                    f"within {_CONNECT_TIMEOUT} s, and check that its port is reachable"
                ) from error
        time.sleep(0.5)


def is_primary() -> bool:
    """Return whether this process is the primary one, which writes and prints."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Return when every process has reached the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def run_on_primary(task: Callable[[], object]) -> None:
    """Run a task on the primary process; all processes raise its InputError.

    Raises:
        InputError: raised by the task.
    """
    message = ""
    if is_primary():
        try:
            task()
        except InputError as error:
            message = str(error)
    if jax.process_count() > 1:
        text = np.frombuffer(message.encode()[:_MAX_MESSAGE_BYTES].ljust(_MAX_MESSAGE_BYTES), np.uint8)
        message = bytes(multihost_utils.broadcast_one_to_all(text)).decode(errors="ignore").rstrip()
    if message:
        raise InputError(message)


def peer_failure(error: BaseException) -> str | None:
    """Describe an error that the end of another process caused; None for other errors."""
    markers = ("Gloo", "NCCL", "Connection closed", "Connection reset", "coordination service", "UNAVAILABLE")
    if not jax.distributed.is_initialized() or not any(marker in str(error) for marker in markers):
        return None
    return f"another process of this run is gone ({describe(error)})"


def exit_process(status: int, *, wait_for_peers: bool = False) -> NoReturn:
    """Exit without Python's shutdown, which could wait for lost peers.

    Args:
        status: the exit status.
        wait_for_peers: whether to wait briefly for the peers, if they probably exit too: the first process to exit also
            terminates the others.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        if wait_for_peers:
            from orbax.checkpoint import multihost  # its barrier, unlike JAX's public one, has a time-out

            with contextlib.suppress(Exception):  # peers that continue will detect the lost process
                multihost.get_barrier_sync_fn()(key="leaving", timeout_ms=1000 * _EXIT_TIMEOUT)
                # The primary process connects the others and exits last; otherwise they would be aborted.
                time.sleep(is_primary())
        os._exit(status)
    sys.exit(status)
