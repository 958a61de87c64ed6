r"""Domain randomization: a network for real knees, trained on phantoms alone.

    python launch.py --config=configs/phantom_to_real.py --workdir=runs/phantom_to_real

The finished run scores real radiographs with masks, in a folder as in configs/folder.py, with

    python launch.py --mode=evaluate --config=configs/phantom_to_real.py --workdir=runs/phantom_to_real \
        --config.data.external=DIR --config.data.external_structures="whole femur,tibia"

Measured on 2 CPU cores shared with other work: 60 min. Test Dice on 480 unseen phantoms as wide as these: femur
0.961, tibia 0.989, fibula 0.888, patella 0.903. On 150 tight crops by an unrelated, simpler generator (not in this
repository), as varied: whole femur 0.984 (median 0.991, worst 0.824), tibia 0.984 (median 0.989, worst 0.706), fibula
0.787; the worst are washed out or show bones unlike those of radiographs. No real knee was available.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default


def get_config() -> ConfigDict:
    """Return phantoms far wider than reality, so that real radiographs lie within their range."""
    config = default.get_config()
    data = config.data
    data.update(default.phantom())
    data.update(default.external())
    data.fractions = (0.98, 0.005, 0.015)
    data.attributes = ("sex",)
    data.phantom.patients = 32_000
    data.phantom.attributes = ConfigDict(
        {"sex": ConfigDict({"female": 0.5, "male": 0.5})}
    )  # without a difference
    data.phantom.fov_mm = (80.0, 380.0)  # from a tight crop of the joint to half a limb
    data.phantom.randomisation = (0.3, 1.0)
    data.phantom.masks = "exact"

    config.model.widths = (16, 32, 64, 128, 256)
    config.model.norm = "group"  # batch statistics of phantoms differ from those of real radiographs
    config.optimizer.warmup_steps = 200
    # Phantoms vary more than augmentation could; elastic deformation adds shapes other than a spline's curves.
    config.augment.rotation = 0.0
    config.augment.scale = 0.0
    config.augment.shift = 0.0
    config.augment.elastic = 0.015
    config.augment.gamma = 0.0
    config.augment.contrast = 0.0
    config.augment.noise = 0.0
    config.train.steps = 9_000
    config.train.eval_every = 1500
    config.train.log_every = 100
    return config
