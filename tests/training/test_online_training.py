"""Training on online phantoms: the same cases on any number of devices, and after a kill and a resume."""

from types import SimpleNamespace
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import quickstart
from kneefair_jax.data import cohort_loader, pipeline, store
from kneefair_jax.errors import InputError
from kneefair_jax.training import config_checks, loop, setup, sharding, stages
from tests.training.test_loop import cut


def config(**train):
    run = quickstart.get_config()
    run.data.size = (16, 16)
    run.data.phantom.update({"patients": 16, "online": True})
    run.model.update({"widths": (4,), "convolutions": 1})
    run.optimizer.update({"name": "sgd", "learning_rate": 0.05, "warmup_steps": 0})
    run.train.update({"batch_size": 8, "ema": 0.5, "eval_every": 2, "log_every": 1, **train})
    return run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data = config().data
    cohort = cohort_loader.load(data, data.seed)
    folder = tmp_path_factory.mktemp("store")
    return cohort_loader.prepare(data, data.seed, cohort, None, folder, store.Options())[0]


def train(run, prepared, folder):
    folder.mkdir(exist_ok=True)
    experiment = setup.build(run, prepared.cohort)
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, experiment.state)  # a step donates its state
    loop.train(run, experiment, prepared.cohort, prepared.cases, folder)
    with loop.Checkpoints(folder / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(run.train.steps, like)[0])


def same_everywhere(prepared, steps, folder, monkeypatch):
    """States after the steps: on eight devices, killed and resumed, and on one device; returns the first."""
    run, cohort = config(steps=steps), prepared.cohort
    straight = train(run, prepared, folder / "straight")
    with cut(monkeypatch, steps // 4 * 2):
        train(run, prepared, folder / "cut")
    chex.assert_trees_all_equal(train(run, prepared, folder / "cut"), straight)

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), (sharding.AXIS,))
    monkeypatch.setattr(setup.sharding, "data_mesh", lambda: mesh)
    experiment = setup.build(run, cohort)
    state = experiment.state
    inputs = pipeline.training_inputs(prepared.cases, cohort.source, cohort.cases)
    batches = pipeline.training_batches(inputs, experiment.order, experiment.partition.index, batch_size=8)
    for _, batch in zip(range(steps), batches, strict=False):
        state, _ = experiment.train_step(state, experiment.place(batch))
    chex.assert_trees_all_close(jax.device_get(state.params), straight.params, atol=1e-5)
    first = jax.device_get(setup.build(run, cohort).state)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), straight.params, first.params)
    assert max(jax.tree.leaves(moved)) > 1e-2
    return straight


def quick(stage, seed, step, batch):
    """Discs on noise, in place of knees: they take no time to compile."""
    step_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(stage), seed), step)
    at = jnp.arange(16)

    def one(position, knee):
        key = jax.random.fold_in(step_key, position)
        y, x = jax.random.randint(key, (2,), 4, 12)
        label = ((at[:, None] - y) ** 2 + (at - x) ** 2 < 16).astype(jnp.uint8) * (1 + knee.astype(jnp.uint8))
        return 100 * label[..., None] + jax.random.bits(key, (16, 16, 1), jnp.uint8) // 8, label

    image, label = jax.vmap(one)(batch["position"], batch["knee"])
    return {**batch, "image": image, "label": label}


def test_parameters_do_not_depend_on_devices_or_interruptions(tmp_path, monkeypatch):
    data = config().data
    cohort = cohort_loader.load(data, data.seed)
    source = cohort.source._replace(online=cohort.source.online._replace(draw=quick))
    blank = {"image": np.zeros((16, 16, 1), np.uint8), "label": np.ones((16, 16), np.uint8)}
    prepared = cohort_loader.Prepared(cohort._replace(source=source), [blank] * len(cohort.cases), ())
    same_everywhere(prepared, 4, tmp_path, monkeypatch)


@pytest.mark.slow
def test_fifty_steps_do_not_depend_on_devices_or_interruptions(prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        straight = same_everywhere(prepared, 50, tmp_path, patch)
    run = config(steps=50)
    run.parallel = "pmap"  # fast: tests/training/test_steps.py
    chex.assert_trees_all_close(train(run, prepared, tmp_path / "pmap").params, straight.params, atol=1e-5)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("mitigation.schedule", "name", "jtt"),
        ("mitigation.schedule", "name", "last_layer"),
        ("data", "folds", 5),
        ("report", "attribute_leakage", True),
    ],
)
def test_what_needs_the_same_cases_again_is_refused(section, field, value):
    run = config()
    cohort = cohort_loader.load(run.data, run.data.seed)
    run.update_from_flattened_dict({f"{section}.{field}": value})
    with pytest.raises(InputError, match=rf"online=True: .*{section}.{field}"):
        config_checks.validate(run, cohort)


def test_group_sizes_of_another_draw_are_refused():
    run = config()
    cohort = cohort_loader.load(run.data, run.data.seed)
    run.mitigation.objective.update({"name": "group_dro", "adjustment": 1.0})
    with pytest.raises(InputError, match=r"online=True: .*mitigation.objective.adjustment"):
        config_checks.validate(run, cohort)


@pytest.mark.parametrize(
    ("column", "data"),
    [
        ("kl", {"attributes": ("race", "kl")}),
        ("fov_mm", {"attributes": ("race", "fov_mm"), "bins": {"fov_mm": (140,)}}),
        ("randomisation", {"attributes": ("race", "randomisation"), "bins": {"randomisation": (0.5,)}}),
        ("kl", {"levels": {"kl": ("0", "1")}}),
    ],
)
@pytest.mark.parametrize("is_online", [True, False])
def test_groups_that_the_draw_decides_are_refused(column, data, is_online):
    run = config()
    run.data.phantom.update({"patients": 40, "online": is_online})
    with run.unlocked():
        run.data.update(data)
    cohort = cohort_loader.load(run.data, run.data.seed)
    if is_online:
        with pytest.raises(InputError, match=rf"data\.phantom\.online=True: .*{column}"):
            config_checks.validate(run, cohort)
    else:
        config_checks.validate(run, cohort)


def test_every_stage_draws_cases_of_its_own(monkeypatch):
    """Each stage starts at step 0 with the run's seed, so its number has to differ."""

    class Run(NamedTuple):
        config: object
        cohort: object
        experiment: object
        numbers: list

        def train_stage(self, directory, stage, label):
            self.numbers.append(stage.number)

        def best_variables(self, directory, experiment):
            return {}

    run = config()
    run.mitigation.schedule.update({"name": "distilled", "start": "pooled"})
    cohort = cohort_loader.load(run.data, run.data.seed)
    partition = setup.mitigation_groups(cohort, run.mitigation.groups)
    stage_run = Run(run, cohort, SimpleNamespace(partition=partition), [])
    stages.SCHEDULES["distilled"](stage_run)
    assert len(set(stage_run.numbers)) == len(partition.names) + 2 == len(stage_run.numbers)

    draws = []

    def spy(definition):
        draws.append(definition.options.draw)
        return lambda state, batch: None

    monkeypatch.setattr(setup.steps, "make_train_step", spy)
    source = cohort.source._replace(online=cohort.source.online._replace(draw=lambda *args: args))
    setup.build(config(), cohort._replace(source=source), setup.Stage(number=3))
    assert draws[0]("seed", "step", "batch") == (3, "seed", "step", "batch")


@pytest.mark.slow
def test_a_batch_is_drawn_whole_before_it_is_cut(monkeypatch):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), (sharding.AXIS,))
    monkeypatch.setattr(setup.sharding, "data_mesh", lambda: mesh)
    run = config()
    run.model.norm = "group"
    cohort = cohort_loader.load(run.data, run.data.seed)
    source = cohort.source._replace(online=cohort.source.online._replace(draw=quick))
    cohort = cohort._replace(source=source)
    after = []
    for parts in (1, 4):
        run.train.accumulation = parts
        experiment = setup.build(run, cohort)
        inputs = pipeline.training_inputs([], cohort.source, cohort.cases)
        batches = pipeline.training_batches(
            inputs, experiment.order, experiment.partition.index, batch_size=8
        )
        state, metrics = experiment.train_step(experiment.state, experiment.place(next(batches)))
        after.append(jax.device_get((state.params, metrics["loss"])))
    chex.assert_trees_all_close(*after, atol=1e-6)
