"""What `benchmarks/gpu.py` measures, a function for each section.

Each takes whether it is a smoke test (tiny sizes), the time on the clock `time.monotonic` by which it must end, and a
function that records its result so far. What it raises, the caller records.
"""

import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import device_agreement, device_trace, jax_step, roofline, train_step
from benchmarks.jax_step import Setting
from benchmarks.machine import conditions

Record = Callable[[dict[str, Any]], None]

# What a run imports beyond JAX; wheels bring what is missing (benchmarks/gpu.sh lists them).
NEEDED = (
    *(
        "flax",
        "optax",
        "orbax.checkpoint",
        "chex",
        "ml_collections",
        "grain",
        "array_record",
        "tensorflow_datasets",
    ),
    *("tensorboardX", "pandas", "pyarrow", "scipy", "PIL", "safetensors", "lazy_loader"),
)
SMOKE_NETWORKS = {
    "unet": {"name": "unet", "widths": (2, 4)},
    "resnet18": {"name": "resnet18_unet", "widths": (2, 2, 2, 2, 2)},
}
SMOKE_SIZES = device_agreement.Sizes(side=16, batch_size=2, widths=(2, 4), steps=2, compile_reference=True)


def environment(smoke: bool, deadline: float, record: Record) -> None:
    """Hardware, versions and imports.

    Raises:
        ImportError: a package is missing; the names are in the result.
    """
    del deadline
    device = jax.devices()[0]
    result = {
        **conditions(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "platform": device.platform,
        "nvidia_smi": _nvidia_smi(),
        "smoke": smoke,
    }
    record(result)
    missing = {}
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # a package that is there may fail on a library that is not
            missing[name] = f"{type(error).__name__}: {error}"[:300]
    record(result | {"missing": missing})
    if missing:
        raise ImportError(f"packages that cannot be imported: {', '.join(missing)}")


def correctness(smoke: bool, deadline: float, record: Record) -> None:
    """Every comparison of `device_agreement`.

    Raises:
        AssertionError: a difference is larger than its tolerance.
    """
    rows: list[dict[str, Any]] = []
    failures = []
    for name in device_agreement.COMPARISONS:
        if time.monotonic() > deadline:
            failures.append(f"{name}: not compared, the time is over")
            continue
        start = time.perf_counter()
        try:
            differences = device_agreement.compare(name, SMOKE_SIZES if smoke else device_agreement.Sizes())
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:1000]}")
            continue
        rows += [difference._asdict() | {"agrees": difference.agrees} for difference in differences]
        failures += [f"{d.name}: {d.value:.2e} > {d.tolerance:g}" for d in differences if not d.agrees]
        seconds = time.perf_counter() - start
        print(f"{name}: {len(differences)} differences in {seconds:.1f} s", flush=True)
        record({"differences": _finite(rows), "failures": failures})
    if failures:
        record({"differences": _finite(rows), "failures": failures})
        raise AssertionError("; ".join(failures))


def training(smoke: bool, deadline: float, record: Record, titles: str = "") -> None:
    """`train_step.run`, and what augmentation adds to a step.

    Args:
        smoke: tiny networks, without PyTorch.
        deadline: see the module.
        record: see the module.
        titles: texts separated by commas; the rows whose title contains one of them, in the order of the texts, and
            no step with augmentation. All by default.

    Raises:
        RuntimeError: a row failed.
    """
    python = sys.executable if not smoke and importlib.util.find_spec("torch") else None
    latest: dict[str, Any] = {}

    def keep(result: dict[str, Any]) -> None:
        latest.update(result)
        record(latest)

    chosen = train_step.select(train_step.GPU, titles)
    train_step.run(
        [Setting("unet", 16, "float32", 2), Setting("unet", 16, "bfloat16", 2)] if smoke else chosen,
        keep,
        torch_python=python,
        variants=train_step.VARIANTS,
        # Time for the step with augmentation.
        deadline=deadline if smoke or titles else deadline - 30,
        networks=SMOKE_NETWORKS if smoke else jax_step.NETWORKS,
        rounds=2 if smoke else 5,
        round_seconds=0.01 if smoke else 0.3,
        least_seconds=0 if smoke else 30,
        limits=roofline.measure(64, 1) if smoke else None,
    )
    if not smoke and not titles and time.monotonic() < deadline - 20:
        setting = Setting("unet", 512, "bfloat16", 16)
        keep({"augmentation": train_step.augmentation_cost(setting, jax_step.NETWORKS["unet"])})
    if latest["errors"]:
        raise RuntimeError("; ".join(latest["errors"]))


def phantoms(smoke: bool, deadline: float, record: Record) -> None:
    """Phantoms a second: drawn on the device alone, and by a cohort's source, which brings them to the host.

    A size that the time does not suffice for is listed in `not_measured`.
    """
    from kneefair_jax.data import phantom

    settings = {
        "patients": 4 if smoke else 256,
        "knees_per_patient": 1,
        "bilateral": False,
        "attributes": {},
        "bias": {},
        "fov_mm": (140.0, 140.0),
        "randomisation": (0.0, 0.0),
        "masks": "annotated",
    }
    batch = 2 if smoke else 64
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"rows": rows, "batch_size": batch, "not_measured": []}
    for side in (16,) if smoke else (128, 512, 256):
        if time.monotonic() > deadline - (0 if smoke or side == 128 else 70):  # most of it is compilation
            result["not_measured"].append(side)
            record(result)
            continue
        draw = jax.jit(
            jax.vmap(lambda seed, side=side: phantom.draw_case(jax.random.key(seed), size=(side, side)))
        )
        start = time.perf_counter()
        jax.block_until_ready(draw(jnp.arange(batch)))
        first = time.perf_counter() - start
        row = {"side": side, "first_seconds": first}
        seconds = roofline.median_seconds(draw, jnp.arange(batch), calls=2 if smoke else 20)
        row["device_cases_per_second"] = batch / seconds
        rows.append(row)
        record(result)
        source = phantom.source(settings, size=(side, side), seed=0)
        count = len(source.cases)
        list(source.read(range(min(16, count))))  # compiles
        start = time.perf_counter()
        cases = sum(1 for _ in source.read(range(count)))
        row["source_cases_per_second"] = cases / (time.perf_counter() - start)
        record(result)


def pipeline(smoke: bool, deadline: float, record: Record) -> None:
    """Share of a training step in which the device waits for data, at 512 x 512, from the store of a run."""
    del deadline
    from benchmarks import pipeline as benchmark
    from configs import quickstart
    from kneefair_jax.data import cohort_loader, store

    config = quickstart.get_config()
    side = 16 if smoke else 512
    config.data.size = (side, side)
    config.data.phantom.patients = 40 if smoke else 96
    config.model.widths = (2, 4) if smoke else jax_step.NETWORKS["unet"]["widths"]
    config.model.dtype = "float32" if smoke else "bfloat16"
    # As many examples for each device.
    config.train.batch_size = jax.device_count() * (2 if smoke else 16)
    cohort = cohort_loader.load(config.data, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        cases = store.prepare(cohort.source, cohort.grid, Path(folder) / "store")
        prepared = {
            "side": side,
            "cases": len(cases),
            "batch_size": config.train.batch_size,
            "prepare_seconds": time.perf_counter() - start,
        }
        record(prepared)
        rounds, steps = (1, 2) if smoke else (5, 30)
        record(prepared | {"waiting": benchmark.waiting(config, cohort, cases, rounds, steps)})


def evaluation(smoke: bool, deadline: float, record: Record) -> None:
    """Cases a second: label map, Dice and calibration on the device, distances on the host; and statistics."""
    from benchmarks import scaling
    from kneefair_jax import metrics, models
    from kneefair_jax.fairness import patient_bootstrap, scores
    from kneefair_jax.training import steps

    del deadline
    side, batch_size = (16, 2) if smoke else (512, 16)
    networks = SMOKE_NETWORKS if smoke else jax_step.NETWORKS
    setting = Setting("unet", side, "float32", batch_size)
    structures = jax_step.CLASSES - 1
    variables = jax_step.first_state(setting, networks["unet"]).variables
    model = models.create(networks["unet"], classes=jax_step.CLASSES)
    step = jax.jit(steps.make_case_step(model, structures, jnp.arange(structures + 1)))
    variables, batch = jax.device_put(variables), jax_step.batch_of(setting)
    fields = {"image", "label", "group"}
    batch = {name: array for name, array in batch.items() if name in fields}
    on_device = jax.device_put(batch)
    seconds = roofline.median_seconds(step, variables, on_device, calls=3, rounds=3)
    result: dict[str, Any] = {"side": side, "batch_size": batch_size}
    result["device_cases_per_second"] = batch_size / seconds

    def with_transfers() -> Any:
        return jax.device_get(step(variables, jax.device_put(batch)))

    seconds = roofline.median_seconds(with_transfers, calls=3, rounds=3)
    result["transferred_cases_per_second"] = batch_size / seconds
    record(result)
    truth = device_agreement.squares(batch_size, side)
    prediction, spacing = np.roll(truth, 2, axis=1), np.full((batch_size, 2), 0.3, np.float32)
    start = time.perf_counter()
    metrics.surface_distances(prediction, truth, structures, spacing)
    result["distances_cases_per_second"] = batch_size / (time.perf_counter() - start)
    record(result)
    patients, draws = (120, 200) if smoke else (2000, 10_000)
    rng, group = np.random.default_rng(0), np.arange(patients) % 6
    dice = np.clip(rng.normal(0.9 - 0.01 * group, 0.04), 0, 0.999)
    strata = patient_bootstrap.stratify(dice[None, None], group, 1)
    start = time.perf_counter()
    patient_bootstrap.intervals(strata, rng, draws)
    result |= {"patients": patients, "draws": draws, "bootstrap_seconds": time.perf_counter() - start}
    record(result)
    table = scaling.scores(patients).assign(patient_id=lambda table: table["case_id"])
    start = time.perf_counter()
    scores.scores(
        table,
        scaling.STRUCTURES,
        ("sex", "race"),
        min_group_patients=10,
        draws=draws,
        seed=0,
    )
    record(result | {"report_scores_seconds": time.perf_counter() - start})


def trace(smoke: bool, deadline: float, record: Record) -> None:
    """The operations that a training step spends its time in.

    Raises:
        ValueError: the trace shows none.
    """
    del deadline
    setting = Setting("unet", 16, "float32", 2) if smoke else Setting("unet", 512, "bfloat16", 16)
    network = (SMOKE_NETWORKS if smoke else jax_step.NETWORKS)["unet"]
    step = jax_step.jax_step(setting, network, jax_step.first_state(setting, network))
    step.run(2)
    updates = 3
    events = device_trace.trace(lambda: step.run(updates))
    record({"setting": setting.title, "updates": updates} | device_trace.summary(events))
    if not events:
        raise ValueError("the trace shows no operation of the device")


def _nvidia_smi() -> str | None:
    """Name, driver and memory of the GPU, as nvidia-smi tells; None without it."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return (answer.stdout or answer.stderr).strip()[:500]


def _finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with None for what JSON lacks."""
    return [
        {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
