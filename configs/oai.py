r"""The Osteoarthritis Initiative from your own download, with your own masks.

    python launch.py --config=configs/oai.py --workdir=runs/oai --config.data.root=OAI --config.data.masks=MASKS

`data.root` holds the folders of images (00m, 12m, ...) and, unless `data.tables` says otherwise, the tables, anywhere
below it: Enrollees, AllClinical00 or SubjectChar00, kxr_sq_bu00, XRay00. `data.masks` holds a mask for each film, named
by case (9000099_00m_00180901.nii.gz), barcode or ID; labels 0-8 as in `anatomy.SCHEMES["knees"]`. The loader excludes
and lists radiographs without a mask or a spacing, of other series, or below the quality of `data.quality`.

A case is a film, or with --config.data.knees=split a knee; reports can then be by its Kellgren-Lawrence grade and side:

    --config.data.knees=split --config.data.attributes="('sex','race','age','kl','side')"
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default


def get_config() -> ConfigDict:
    """Return the config of the Osteoarthritis Initiative."""
    config = default.get_config()
    config.data.update(default.oai())
    # sex, race, age (at the visit where a table has V06AGE and so on, else at enrollment), bmi, kl, site, side, or any
    # column of the tables by its own name; of a radiograph's two knees kl_right and kl_left.
    config.data.attributes = ("sex", "race", "age")
    return config
