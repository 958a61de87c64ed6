r"""The layout of Siddiqui et al. (doi 10.1038/s41598-024-66873-6): Images, Annotations and the OAI's tables.

    python launch.py --config=configs/siddiqui.py --workdir=runs/siddiqui \
        --config.data.root=STUDY --config.data.tables=TABLES

`data.root` holds Images/<id>.dcm and Annotations/<id>.nii.gz (labels 0-8: background, right and left patella, femur,
tibia, fibula); the id is or holds the patient's. Size and attributes are the study's; the recipe is this project's.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default


def get_config() -> ConfigDict:
    """Return the config of the study's folders."""
    config = default.get_config()
    config.data.update(default.siddiqui())
    config.data.size = (224, 224)
    config.data.attributes = ("sex", "race", "age")
    return config
