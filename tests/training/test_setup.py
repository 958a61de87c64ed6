"""What training sees of the samplers; what else is refused before step 0 stands in test_loop."""

import numpy as np
import pytest

from kneefair_jax.data import sampling
from kneefair_jax.errors import InputError
from kneefair_jax.training import setup, steps
from tests.training import study


def ordered(**fields):
    config, cohort = study.config(), study.cohort()
    config.mitigation.groups = ("race",)
    config.mitigation.update(fields)
    partition = setup.mitigation_groups(cohort, ("race",))
    return setup.training_order(config, cohort, partition, cohort.rows("train"))[1]


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_the_sampler_draws_training_cases_by_the_config_s_groups(sampler):
    """18 of the 24 training cases are of race A, 6 of B; batches are of 8."""
    order = ordered(sampler=sampler)
    rows = np.array([order[k] for k in range(24)])
    assert (rows < 24).all()
    rare = (rows % 8 >= 6).reshape(3, 8).sum(1).tolist()
    if sampler in ("proportional", "equal_share"):
        assert rare == {"proportional": [2, 2, 2], "equal_share": [4, 4, 4]}[sampler]
    if sampler == "undersampled":
        assert sum(rare) == 12


def test_weights_that_cannot_be_read_are_refused_before_anything_is_built(tmp_path):
    config, cohort = study.config(), study.cohort()
    setup.check_network(config, cohort)
    config.model.update(
        {"name": "resnet18_unet", "widths": (2,) * 5, "weights": str(tmp_path / "no.safetensors")}
    )
    with pytest.raises(InputError, match="no.safetensors"):
        setup.check_network(config, cohort)


@pytest.mark.parametrize(
    ("ramp", "stage_steps", "ramp_steps"), [(False, None, 0), (True, None, 40), (True, 7, 7)]
)
def test_the_step_has_the_config_s_mitigation_settings(ramp, stage_steps, ramp_steps, monkeypatch):
    """`tests.training.test_steps` has what they do."""

    class BuiltError(Exception):
        pass

    def stop(*_, extras, **__):
        raise BuiltError(extras)

    monkeypatch.setattr(steps, "make_train_step", stop)
    config = study.config()
    config.train.steps = 40
    config.mitigation.update(
        {"temperature": 3.5, "ramp": ramp, "sharpness": 0.25, "distillation": 0.75, "groups": ("race",)}
    )
    with pytest.raises(BuiltError) as built:
        setup.build(config, study.cohort(), setup.WHOLE._replace(steps=stage_steps))
    assert built.value.args == (
        steps.Extras(sharpness=0.25, distillation=0.75, temperature=3.5, ramp_steps=ramp_steps),
    )
