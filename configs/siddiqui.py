r"""The layout of the study that this project comes from (arXiv 2308.04356): Images, Annotations and the OAI's tables.

    python launch.py --config=configs/siddiqui.py --workdir=runs/siddiqui \
        --config.data.root=STUDY --config.data.tables=TABLES

`data.root` holds Images/<id>.dcm and Annotations/<id>.nii.gz (labels 0-8: background, right and left patella, femur,
tibia, fibula); the id is or holds the patient's. Size and attributes are the study's; the recipe is this project's.
"""

from ml_collections import ConfigDict

from configs import oai


def get_config() -> ConfigDict:
    """The OAI's config, with the study's folders."""
    config = oai.get_config()
    data = config.data
    data.source = "siddiqui"
    data.size = (224, 224)
    data.visit = "00"  # at which the films were made
    del data.visits, data.masks
    return config
