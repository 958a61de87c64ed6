r"""The Osteoarthritis Initiative from your own download, with masks of your own.

    python launch.py --config=configs/oai.py --workdir=runs/oai --config.data.root=OAI --config.data.masks=MASKS

`data.root` holds the folders of images (00m, 12m, ...) and, unless `data.tables` says otherwise, the tables, anywhere
below it: Enrollees, AllClinical00 or SubjectChar00, kxr_sq_bu00, XRay00. `data.masks` holds a mask for each film, named
by case (9000099_00m_00180901.nii.gz), barcode or ID; labels 0-8 as in `anatomy.SCHEMES["knees"]`. Films without a mask
or a spacing, of other series, or below the quality asked for are left out, and said to be.

A case is a film, or with --config.data.knees=split a knee; reports can then be by its Kellgren-Lawrence grade and side:

    --config.data.knees=split --config.data.attributes="('sex','race','age','kl','side')"
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Names the folders, the visits and what a film must be like."""
    config = default.get_config()
    data = config.data
    data.source = "oai"
    data.root = ""  # the folder that holds 00m, 12m, ...; required
    data.masks = ""  # the folder of masks; required
    data.tables = ""  # the folder of the tables; "" is data.root
    data.visits = ("00",)  # 00 baseline, 01 12 months, 03 24, 05 36, 06 48, 08 72, 10 96
    # How a mask lies on its film where one header or both state no orientation, as in configs/folder.py.
    data.orientation = ""
    data.knees = "film"  # a case is a film with 8 structures; "split": a knee with 4
    data.mirror = False  # of split knees, mirror the left ones: every fibula is at image left
    # sex, race, age (at the visit where a table has V06AGE and so on, else at enrolment), bmi, kl, site, side, or any
    # column of the tables by its own name; of a film's two knees kl_right and kl_left.
    data.attributes = ("sex", "race", "age")
    data.bins = ConfigDict({"age": (50.0, 64.0)})  # the study's: <=50, 51-64, 65-79
    # Codes or labels by comma that a film must have in XRay00 (V00ACCEPT at baseline); one without a reading is then
    # left out. "" is any film.
    data.quality = quality = ConfigDict()
    quality.ACCEPT = ""
    quality.ALIGN = ""
    quality.CENTER = ""
    quality.DEPICT = ""
    quality.EXPOSE = ""
    quality.MOTION = ""
    quality.POSITN = ""
    data.allow_similar_ids = False  # True accepts identifiers and levels that look alike: 7 and 0007, F and f
    return config
