"""The training step of a run on one device, compiled, with what it costs: for benchmarks."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax import losses, mitigation, models
from kneefair_jax.data.augment import Augmentation
from kneefair_jax.training import sharding, state, steps

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "widths": (16, 32, 64, 128, 256)},
    "large": {"name": "unet", "widths": (64, 128, 256, 512, 1024)},
    "resnet18": {"name": "resnet18_unet", "widths": (16, 32, 64, 128, 256)},
}
CLASSES = 5
Run = Callable[[int], float]  # updates -> milliseconds of one
OPTIMIZER = {
    "name": "adam",
    "learning_rate": 2e-3,
    "schedule": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
}
# As configs/default.py varies a batch.
AUGMENTATION = Augmentation(
    flip=0.5, rotation=10.0, scale=0.1, shift=0.05, gamma=0.5, contrast=0.2, noise=0.02
)


class Setting(NamedTuple):
    """What is timed: a key of `NETWORKS`, sides of the image in pixels, type of the computation, batch size."""

    network: str
    side: int
    dtype: str
    batch_size: int

    @property
    def title(self) -> str:
        """`unet 512 bfloat16 x16`."""
        return f"{self.network} {self.side} {self.dtype} x{self.batch_size}"


class JaxStep(NamedTuple):
    """A compiled step of this package.

    Attributes:
        run: `run(n)` makes n updates and returns the milliseconds of one.
        first: `loss` and `gradient_norm` of the first update.
        cost: `compile_seconds`, `flops` of the program as written (see `written_flops`), and of the compiled program
            `flops_compiled`, `bytes_accessed`, `peak_bytes`.
    """

    run: Run
    first: dict[str, float]
    cost: dict[str, float]


def batch_of(setting: Setting) -> dict[str, np.ndarray]:
    """Noise with random labels, as the pipeline gives a batch: image u8[B, H, W, 1], label u8[B, H, W], ..."""
    rng, size = np.random.default_rng(0), setting.batch_size
    return {
        "image": rng.integers(0, 256, (size, setting.side, setting.side, 1), np.uint8),
        "label": rng.integers(0, CLASSES, (size, setting.side, setting.side), np.uint8),
        "group": np.arange(size, dtype=np.int32) % 2,
        "mask": np.ones(size, np.float32),
        "weight": np.ones(size, np.float32),
        "position": np.arange(size, dtype=np.int32),
    }


def first_state(
    setting: Setting,
    network: dict[str, Any],
    objective: mitigation.GroupObjective | None = None,
    groups: int = 2,
) -> state.TrainState:
    """The state before the first step, as NumPy arrays, drawn on the CPU; None: the objective is the mean loss."""
    model = models.create(network | {"dtype": setting.dtype}, classes=CLASSES)
    transform, objective = state.create_optimizer(OPTIMIZER, 1000), objective or mitigation.erm()
    # The seed is read on the CPU, so what draws the parameters is compiled there.
    seed = jax.device_put(jnp.uint32(0), jax.local_devices(backend="cpu")[0])
    counts = np.ones(groups, np.int32)
    draw = jax.jit(
        lambda seed: state.create(seed, model, (32, 32, 1), transform, objective, counts),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return jax.device_get(draw(seed))


def define_step(
    setting: Setting, network: dict[str, Any], augmentation: Augmentation
) -> steps.StepDefinition:
    """The step of a run on one device, with the mean loss as objective and two groups."""
    return steps.StepDefinition(
        models.create(network | {"dtype": setting.dtype}, classes=CLASSES),
        losses.dice_cross_entropy,
        mitigation.erm(),
        state.create_optimizer(OPTIMIZER, 1000),
        augmentation=augmentation,
        flip_table=jnp.arange(CLASSES),
        groups=2,
    )


def train_step(
    setting: Setting, network: dict[str, Any], augmentation: Augmentation, micro_batches: int = 1
) -> Any:
    """The step of a run on one device, `jax.jit` of `(state, batch, teachers)`."""
    definition = define_step(setting, network, augmentation)
    options = definition.options._replace(micro_batches=micro_batches)
    return sharding.PARALLEL["jit"].compile(steps.make_train_step(definition._replace(options=options)))


def several_steps(setting: Setting, network: dict[str, Any]) -> Any:
    """Several steps of a run on one device as one program, `jax.jit` of `(state, batches, teachers)`."""
    step = steps.make_train_step(define_step(setting, network, Augmentation()))
    return sharding.PARALLEL["jit"].compile(sharding.several_steps(step))


def timer(step: Callable[..., Any], current: state.TrainState, batch: Any) -> Run:
    """Return `run(n)`, which makes n updates and returns the milliseconds of one.

    Args:
        step: compiled, `(state, batch) -> (state, metrics)`; it donates the state.
        current: the state before the first update.
        batch: of every update, on the device.
    """

    def run(updates: int) -> float:
        nonlocal current
        start = time.perf_counter()
        for _ in range(updates):
            current, metrics = step(current, batch)
        jax.block_until_ready((current, metrics))
        return 1e3 * (time.perf_counter() - start) / updates

    return run


def in_turns(timers: Mapping[Any, Run], rounds: int, seconds: float) -> dict[Any, list[float]]:
    """Return the milliseconds of an update in each round, by variant; every other round is in reversed order.

    Args:
        timers: of each variant.
        rounds: number of rounds.
        seconds: of one variant in one round, about.
    """
    updates = {}
    for name, run in timers.items():
        run(1)
        updates[name] = max(1, min(200, round(1e3 * seconds / run(2))))
    times: dict[Any, list[float]] = {name: [] for name in timers}
    for number in range(rounds):
        for name in list(timers)[:: -1 if number % 2 else 1]:
            times[name].append(timers[name](updates[name]))
    return times


def jax_step(
    setting: Setting,
    network: dict[str, Any],
    start: state.TrainState,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (a NamedTuple is immutable)
) -> JaxStep:
    """Compiles the step of a run for the default device and makes its first update."""
    step = train_step(setting, network, augmentation)
    device = jax.devices()[0]
    current, batch = jax.device_put((start, batch_of(setting)), device, may_alias=False)
    lowered = step.lower(current, batch, None)
    begin = time.perf_counter()
    compiled = lowered.compile()
    cost = {"compile_seconds": time.perf_counter() - begin} | _compiled_cost(compiled)
    if flops := written_flops(setting, network, start, augmentation):
        cost["flops"] = flops
    current, metrics = compiled(current, batch, None)
    first = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}

    run = timer(lambda current, batch: compiled(current, batch, None), current, batch)
    return JaxStep(run, first, cost)


def several_timer(setting: Setting, network: dict[str, Any], start: state.TrainState, count: int) -> Run:
    """Compile `count` steps as one program, as `train.steps_per_call`, and return `run(n)` as `timer` does.

    `run` makes a multiple of `count` updates.
    """
    current, batch = jax.device_put((start, batch_of(setting)), jax.devices()[0], may_alias=False)
    compiled = several_steps(setting, network).lower(current, (batch,) * count, None).compile()
    run_calls = timer(lambda current, batch: compiled(current, (batch,) * count, None), current, batch)
    return lambda updates: run_calls(max(1, round(updates / count))) / count


def forward_timer(setting: Setting, network: dict[str, Any], start: state.TrainState) -> Run:
    """Compile the forward pass at test time and return `run(n)`: n passes -> the milliseconds of one."""
    model = models.create(network | {"dtype": setting.dtype}, classes=CLASSES)
    variables, image = jax.device_put((start.optimized, batch_of(setting)["image"]), jax.devices()[0])
    predict = jax.jit(lambda variables, image: model.apply(variables, models.standardize(image)))
    compiled = predict.lower(variables, image).compile()

    def run(passes: int) -> float:
        begin = time.perf_counter()
        for _ in range(passes):
            logits = compiled(variables, image)
        jax.block_until_ready(logits)
        return 1e3 * (time.perf_counter() - begin) / passes

    return run


def written_flops(
    setting: Setting,
    network: dict[str, Any],
    start: state.TrainState,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (a NamedTuple is immutable)
) -> float | None:
    """Floating-point operations of one update on one device (`sharding.written_flops`)."""
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), (start, batch_of(setting))
    )
    return sharding.written_flops(train_step(setting, network, augmentation), *arguments, None)


def _compiled_cost(compiled: jax.stages.Compiled) -> dict[str, float]:
    """Arithmetic, memory traffic and peak memory as XLA knows them of a compiled program; the rest is left out."""
    analysis = compiled.cost_analysis() or {}
    cost = {
        "flops_compiled": analysis.get("flops"),
        "bytes_accessed": analysis.get("bytes accessed"),
    }
    if (memory := compiled.memory_analysis()) is not None:
        resident_bytes = (
            memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        )
        cost["peak_bytes"] = resident_bytes + memory.temp_size_in_bytes
    return {name: float(value) for name, value in cost.items() if value is not None and value > 0}
