"""Run a command of `kneefair` and report when its first training step ended and what JAX compiled, as JSON.

    python -m benchmarks.start_up OUT.json train --config=smoke --workdir=DIR

`benchmarks.growth` starts this module in a process of its own. The instant of the first step is on the clock
`time.monotonic`, which all processes of a machine share.
"""

import atexit
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

COMPILER = "jax._src.interpreters.pxla"  # logs "Compiling NAME with global shapes and types SHAPES ..."


class Programs(logging.Handler):
    """Collects `(name, shapes)` of each program that JAX compiles or reads from its compilation cache."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.names: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of a compilation."""
        if str(record.msg).startswith("Compiling"):
            text = record.getMessage().removeprefix("Compiling ")
            name, _, shapes = text.partition(" with global shapes and types ")
            self.names.append((name, shapes))


def main() -> None:
    """Run the command; write the result when the process ends."""
    from kneefair_jax.cli import main as cli
    from kneefair_jax.training import loop

    target, arguments = Path(sys.argv[1]), sys.argv[2:]
    programs, result = Programs(), dict[str, Any]()
    compiler = logging.getLogger(COMPILER)
    compiler.setLevel(logging.DEBUG)
    compiler.addHandler(programs)
    compiler.propagate = False
    run_steps = loop._Session.run_steps

    def first_steps(session: Any, batches: Any) -> Any:
        import jax

        metrics = jax.block_until_ready(run_steps(session, batches))
        result.setdefault("first_step", time.monotonic())
        return metrics

    loop._Session.run_steps = first_steps
    atexit.register(lambda: target.write_text(json.dumps(result | {"programs": programs.names})))
    cli.run(["kneefair", *arguments])


if __name__ == "__main__":
    main()
