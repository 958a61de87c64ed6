r"""A folder of radiographs, masks and a metadata.csv: the config for your own data.

    python launch.py --config=configs/folder.py --config.data.root=DIR --workdir=runs/mine \
        --config.data.structures="femur,tibia,fibula,patella" --config.data.attributes="('sex','age')"

docs/measured.md has its time and scores on the chest films of JSRT (246 patients, data.structures=chest).
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default


def get_config() -> ConfigDict:
    """Return the config of a folder."""
    config = default.get_config()
    config.data.update(default.folder())
    config.data.attributes = ("sex", "age")
    config.data.bins = ConfigDict({"age": (50.0, 64.0)})  # <=50, 51-64, >=65
    return config
