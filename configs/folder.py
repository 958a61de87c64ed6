r"""A folder of radiographs, masks and a metadata.csv: the config for your own data.

    python launch.py --config=configs/folder.py --config.data.root=DIR --workdir=runs/mine \
        --config.data.structures="femur,tibia,fibula,patella" --config.data.attributes="('sex','age')"

README, "Measured", has its time and scores on the chest films of JSRT (246 patients, data.structures=chest).
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Names the folder, its columns and its labels."""
    config = default.get_config()
    data = config.data
    data.source = "folder"
    data.root = ""  # the folder; required
    data.metadata = "metadata.csv"  # case_id, patient_id, image, mask, attributes; spacing_mm if known
    # knee, knees, chest, names of labels 1, 2, ... by comma, or with their values in the masks, "femur=255"; auto: as
    # found, no flips. A cell "masks/a" of the column mask stands for one file a structure: masks/a_femur.png, ...
    data.structures = "auto"
    # The value of void pixels in the masks (not annotated, outside the field of view), often 255: losses and scores
    # leave them out, as an audit does with --labels ... ignore=255. -1: none.
    data.ignore_label = -1
    data.channels = 1
    data.attributes = ("sex", "age")
    data.bins = ConfigDict({"age": (50.0, 64.0)})  # numeric columns: <=50, 51-64, >=65
    data.split_column = ""  # a column of train, validation and test; "" deals patients by seed
    # How to lay out a mask on its film where one header or both state no orientation: none (as displayed), stored (as
    # stored pixels lie), flip-lr, flip-ud, rotate-180, transpose, rotate-90, rotate-270, anti-transpose; "": refuse the
    # masks whose headers leave it open. Where both headers state one, they decide. `--mode=check` names what fits.
    data.orientation = ""
    data.external = ""  # another folder of the same layout, for evaluation alone
    data.external_structures = ""  # its labels, where they are others: "whole femur,tibia"; "": the same
    data.external_orientation = ""  # of its masks, as data.orientation
    data.external_ignore_label = -1  # of its masks, as data.ignore_label
    data.allow_similar_ids = False  # True accepts identifiers and levels that look alike: 7 and 0007, F and f
    return config
