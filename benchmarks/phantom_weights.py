"""Train the shipped network on phantoms drawn online, within a limit of wall-clock time, and score it.

    python benchmarks/phantom_weights.py --out OUT --minutes 9

One device, no files but those in OUT, no process but this one: populations, phantoms, training and scoring are on the
device. The recipe is `configs/phantom_weights.py`: its phantoms, network, loss, augmentation and optimizer, first on
128 x 128 and then on 256 x 256 pixels. The learning rate follows the share of the time that is over, so that its
schedule ends at the limit at any speed. Everything that the time limit can stop is written before: every 40 seconds the
moving average of the weights, as `phantom.safetensors` (float16) and `phantom.json`, and `training.json` with the curve
of the loss, speeds and the Dice of each bone on unseen phantoms.

`--init FILE` starts from weights of the same network, with another `--seed`, since equal seeds draw equal phantoms. A
CPU trains in smaller steps: enough to go on from weights, with `--cases 0` and `python -m benchmarks.phantom_scores`
afterwards, since scoring takes long there. `--smoke` tries all of it with small sizes.
"""

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

START = time.monotonic()  # imports and compilation count

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.phantom_scores import SETS, Scorer  # noqa: E402
from configs import phantom_weights  # noqa: E402
from kneefair_jax import anatomy, losses, mitigation, models, weights  # noqa: E402
from kneefair_jax.data import phantom  # noqa: E402
from kneefair_jax.data.augment import Augmentation  # noqa: E402
from kneefair_jax.export.network_files import INPUT  # noqa: E402
from kneefair_jax.runtime import atomic  # noqa: E402
from kneefair_jax.training import state, steps  # noqa: E402
from kneefair_jax.training.state import TrainState  # noqa: E402
from kneefair_jax.weights import warm_start  # noqa: E402

NAME = "phantom"
WARM_UP = 0.02  # share of the training time
SAVE_SECONDS = 40.0
CURVE_CASES = 128  # of each set to score at every save, for the curve
RESERVE_SECONDS = 20.0  # for the last scores and files
BAD_STEPS = 50  # in a row, whose gradient is not finite, until training stops
ROWS = 0x524F5753  # separates the keys that choose rows of the population


class Stage(NamedTuple):
    """A working grid, and what is trained on it.

    Attributes:
        side: pixels of height and width.
        batch_size: cases of a step.
        chunk: steps of a call.
        share: of the training time.
    """

    side: int
    batch_size: int
    chunk: int
    share: float


STAGES = (Stage(128, 64, 50, 0.45), Stage(256, 32, 25, 0.55))
CPU_STAGES = (Stage(128, 16, 1, 0.25), Stage(256, 4, 1, 0.75))
CPU_EMA = 0.99  # there are few steps
SMOKE = (Stage(16, 4, 2, 0.5), Stage(32, 4, 2, 0.5))


def learning_rate(progress: np.ndarray, peak: float) -> np.ndarray:
    """Return the rate at shares of the training time: a linear warm-up, then a cosine to 0; f32, as `progress`."""
    progress = np.clip(progress, 0.0, 1.0)
    warm = np.minimum(progress / WARM_UP, 1.0)
    return (peak * warm * 0.5 * (1 + np.cos(np.pi * progress))).astype(np.float32)


def transform(config: ConfigDict, rate: jax.Array | float) -> optax.GradientTransformation:
    """The optimizer of a config at a learning rate; it skips an update whose gradient is not finite."""
    fields = config.optimizer.to_dict() | {"learning_rate": 1.0, "schedule": "constant", "warmup_steps": 0}
    # An update is proportional to the learning rate.
    return optax.apply_if_finite(
        optax.chain(state.create_optimizer(fields, 1), optax.scale(rate)), max_consecutive_errors=BAD_STEPS
    )


def training_chunk(config: ConfigDict, stage: Stage) -> Callable[..., Any]:
    """Several training steps in one call: `(state, rates f32[K]) -> (state, losses f32[K])`."""
    source = phantom.source(config.data.phantom, size=(stage.side, stage.side), seed=config.data.seed)
    online = source.online
    assert online is not None
    population = {name: jnp.asarray(values) for name, values in online.inputs(source.cases).items()}
    count, size = len(source.cases), stage.batch_size
    regions = anatomy.scored_labels(source.structures)
    definition = steps.StepDefinition(
        models.create(config.model, classes=len(source.structures) + 1),
        losses.with_regions(losses.LOSSES[config.loss], regions),
        mitigation.erm(),
        transform(config, 1.0),
        augmentation=Augmentation(**config.augment),
        flip_table=jnp.asarray(anatomy.flip_table(source.structures)),
        groups=1,
        options=steps.StepOptions(
            ema=config.train.ema,
            draw=functools.partial(online.draw, 0),  # one stage: steps are counted across grids
        ),
    )

    def batch(seed: jax.Array, step: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), ROWS), step)
        rows = jax.random.randint(key, (size,), 0, count)
        return {
            **{name: values[rows] for name, values in population.items()},
            "group": jnp.zeros(size, jnp.int32),
            "mask": jnp.ones(size),
            "weight": jnp.ones(size),
            "position": jnp.arange(size, dtype=jnp.int32),
        }

    def one(current: TrainState, rate: jax.Array) -> tuple[TrainState, jax.Array]:
        step = steps.make_train_step(definition._replace(optimizer=transform(config, rate)))
        after, result = step(current, batch(current.seed, current.step))
        return after, result["loss"]

    def single(current: TrainState, rates: jax.Array) -> tuple[TrainState, jax.Array]:
        current, loss = one(current, rates[0])
        return current, loss[None]

    # On CPUs, convolutions in a loop take many times as long, even in a loop of one step.
    return single if stage.chunk == 1 else lambda current, rates: jax.lax.scan(one, current, rates)


def first_state(config: ConfigDict, structures: tuple[str, ...], init: str) -> TrainState:
    """The state before the first step, at random or from weights."""
    model = models.create(config.model, classes=len(structures) + 1)
    objective = mitigation.erm()

    def create(seed: jax.Array) -> TrainState:
        counts = jnp.ones(1, jnp.int32)
        return state.create(
            seed, model, (64, 64, 1), transform(config, 1.0), objective, counts, average=config.train.ema > 0
        )

    first = jax.jit(create)(jnp.uint32(config.seed))
    if not init:
        return first
    trained = warm_start.find(init, config.model, 1)
    return first.with_variables(warm_start.init_from_pretrained(trained, structures, first.variables))


class Recorder:
    """Writes what there is: weights and the record of training."""

    def __init__(self, config: ConfigDict, structures: tuple[str, ...], out: Path):
        self._config, self._structures, self._out = config, structures, out
        self.record: dict[str, Any] = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "config": config.to_dict(),
            "stages": [],
            "curve": [],
            "scores": [],
        }

    def log(self, text: str) -> None:
        """Print a line with the time since the start."""
        print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)

    def write_record(self) -> None:
        """Write `training.json`."""
        atomic.write_json(self._out / "training.json", self.record)

    def write_weights(self, current: TrainState, side: int) -> None:
        """Write the moving average of the weights; they run in float32 wherever they are loaded."""
        variables = {name: tree for name, tree in jax.device_get(current.variables).items() if tree}
        fields = {k: v for k, v in self._config.model.to_dict().items() if k != "weights"}
        about = {
            "network": fields | {"dtype": "float32", "remat": False},
            "structures": list(self._structures),
            "grid": [side, side, 1],
            "fit": "pad",  # better than "stretch" on narrow films of real bones (docs/weights.md)
            "input": INPUT,
            "group": None,
            "step": int(current.step),
            "parameters": models.count(variables["params"]),
            "run": {"config": self._config.to_dict(), "device": jax.devices()[0].device_kind},
        }
        weights.save_network(self._out / f"{NAME}{weights.SUFFIX}", variables, about, half=True)
        self.write_record()


class Clock(NamedTuple):
    """When training starts and ends, by `time.monotonic`."""

    start: float
    end: float

    def progress(self, at: np.ndarray | float) -> np.ndarray:
        """Return shares of the training time at times."""
        return (np.asarray(at) - self.start) / (self.end - self.start)


def shapes(tree: Any) -> Any:
    """Return the shapes, types and places of arrays, which a step that donates them leaves without contents."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def compile_stage(
    config: ConfigDict, stage: Stage, current: Any, recorder: "Recorder"
) -> jax.stages.Compiled:
    """Return the program of `training_chunk`; `current` are the shapes of its state."""
    begun = time.monotonic()
    rates = jax.ShapeDtypeStruct((stage.chunk,), jnp.float32)
    program = jax.jit(training_chunk(config, stage), donate_argnums=0).lower(current, rates).compile()
    recorder.log(f"{stage.side} x {stage.side}: compiled in {time.monotonic() - begun:.1f} s")
    return program


def run_stage(
    program: jax.stages.Compiled,
    stage: Stage,
    current: TrainState,
    peak: float,
    clock: Clock,
    until: float,
    recorder: "Recorder",
    calls: Iterator[int],
    save: Callable[[TrainState], None],
) -> TrainState:
    """Train on one grid until a time.

    Args:
        program: of `compile_stage`.
        stage: the grid.
        current: the state to start from.
        peak: the highest learning rate.
        clock: of the whole training.
        until: when to end, by `time.monotonic`.
        recorder: gets the curve of the loss and the speed.
        calls: one for each call of the program, as many as are allowed.
        save: called every `SAVE_SECONDS` and at the end.
    """
    begun = saved = time.monotonic()
    running: list[jax.Array] = []
    done, waited, took = 0, 0.0, 0.0
    for _ in calls:
        now = time.monotonic()
        # The call before is still running: this one starts when it ends.
        if now + 2 * took > until:
            break
        at = now + took * (1 + np.arange(stage.chunk) / stage.chunk)
        current, loss = program(current, jnp.asarray(learning_rate(clock.progress(at), peak)))
        running.append(loss)
        done += 1
        if len(running) > 1:  # the device always has the next call
            start = time.monotonic()
            _record_loss(recorder, stage, (done - 1) * stage.chunk, jax.device_get(running.pop(0)))
            waited += time.monotonic() - start
            took = (time.monotonic() - begun) / (done - 1)
        if time.monotonic() - saved > SAVE_SECONDS:
            recorder.log(f"step {int(current.step)}: loss {recorder.record['curve'][-1]['loss']:.4f}")
            save(current)
            saved = time.monotonic()
    jax.block_until_ready(current)
    seconds = time.monotonic() - begun
    cases = done * stage.chunk * stage.batch_size
    recorder.record["stages"].append(
        {
            **stage._asdict(),
            "seconds": seconds,
            "steps": done * stage.chunk,
            "cases": cases,
            "cases_per_second": cases / seconds,
            "host_waited_share": waited / seconds,
            "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        }
    )
    recorder.log(f"{cases} cases, {cases / seconds:.0f} a second; the host waited {waited / seconds:.0%}")
    save(current)
    return current


def _record_loss(recorder: Recorder, stage: Stage, steps_done: int, values: np.ndarray) -> None:
    loss = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    if not np.isfinite(loss):
        raise SystemExit(f"{stage.side} x {stage.side}: the loss of {len(values)} steps is not finite")
    seconds = round(time.monotonic() - START, 2)
    recorder.record["curve"].append(
        {"seconds": seconds, "side": stage.side, "steps": steps_done, "loss": loss}
    )


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="wall-clock limit of the whole command")
    parser.add_argument("--init", default="", help="weights to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, help="peak; default: that of the config")
    parser.add_argument("--widths", type=int, nargs="+", help="of the network; default: those of the config")
    parser.add_argument("--cases", type=int, default=512, help="phantoms of each set to score; 0 for none")
    parser.add_argument("--smoke", action="store_true", help="small sizes, four calls of two steps")
    options = parser.parse_args()
    config = phantom_weights.get_config()
    if options.init and options.seed == config.seed and not options.smoke:
        parser.error("--init: give another --seed, since equal seeds draw equal phantoms")
    config.seed = options.seed
    if options.learning_rate:
        config.optimizer.learning_rate = options.learning_rate
    if options.widths or options.smoke:
        config.model.widths = tuple(options.widths or (4, 8))
    stages = SMOKE if options.smoke else STAGES
    if jax.default_backend() == "cpu" and not options.smoke:
        stages = CPU_STAGES
        config.model.dtype, config.train.ema = "float32", CPU_EMA
    structures = anatomy.SCHEMES[config.data.phantom.structures]
    options.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(config, structures, options.out)
    deadline = START + 60 * options.minutes
    current = first_state(config, structures, options.init)
    recorder.log(f"{jax.devices()[0].device_kind}, {models.count(current.params):,} parameters")

    cases = 4 if options.smoke else options.cases
    scorer = Scorer(config.model, structures, stages[-1].side, stages[-1].batch_size)
    with ThreadPoolExecutor() as pool:
        # At the same time, since one compilation uses few cores.
        programs = [pool.submit(compile_stage, config, stage, shapes(current), recorder) for stage in stages]
        scoring = pool.submit(scorer.compile, shapes(current.variables))
        wait(programs)
        clock = Clock(time.monotonic(), deadline - RESERVE_SECONDS)
        share = 0.0

        def score(current: TrainState, count: int) -> None:
            for name in SETS:
                if time.monotonic() > deadline - 2:
                    recorder.log(f"no time is left to score {name!r}")
                    continue
                result = scorer.score(scoring.result(), current.variables, name, count)
                about = {"seconds": round(time.monotonic() - START, 2), "step": int(current.step)}
                recorder.record["scores"].append(about | result)
                means = {bone: round(result[bone]["mean"], 4) for bone in scorer.names if bone in result}
                recorder.log(f"{name}: {means}")
            recorder.write_record()

        for stage, program in zip(stages, programs, strict=True):

            def save(current: TrainState, side: int = stage.side) -> None:
                recorder.write_weights(current, side)
                # A failure of the scorer must not stop training; it is raised at the end.
                if cases and side == stages[-1].side and scoring.done() and not scoring.exception():
                    score(current, min(cases, CURVE_CASES))

            share += stage.share
            until = clock.start + share * (clock.end - clock.start)
            calls = iter(range(2)) if options.smoke else itertools.count()
            peak = config.optimizer.learning_rate
            current = run_stage(program.result(), stage, current, peak, clock, until, recorder, calls, save)
        if cases:
            score(current, cases)


if __name__ == "__main__":
    main()
