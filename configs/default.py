"""Every field of a config, with its default, unit and range; the other configs change a few of them.

`get_config` has the fields of every run. What only one kind of run reads has a function of its own: a source of cases
(`folder`, `oai`, `siddiqui`, `phantom`), an external cohort (`external`) and a study (`study`).
`kneefair_jax/training/config_fields.py` holds the type and the range of each.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return the fields that all configs share."""
    config = ConfigDict()
    config.seed = 0  # 0 to 2^32 - 1: of the parameters, the order of cases, augmentation, the bootstrap
    config.init_from = (
        ""  # trained weights: "phantom", a .safetensors file, an exported run; "": random weights
    )
    config.data = _data()
    config.model = model = ConfigDict()
    model.name = "unet"  # resnet18_unet, resnet34_unet: with five widths and norm "batch"
    model.weights = (
        ""  # of a ResNet's encoder: a safetensors file with torchvision's or timm's names; "": random
    )
    model.widths = (8, 16, 32, 64, 128)  # channels at full resolution, at half, ...
    model.convolutions = 2  # 3 x 3 convolutions of a block
    model.norm = "batch"  # or "group"
    model.dtype = (
        "float32"  # of the computation, or "bfloat16"; parameters, statistics and losses stay float32
    )
    model.stem = "pixel"  # or "patch2": 2 x 2 pixels as one, a faster and coarser U-Net
    model.remat = False  # recompute blocks in the backward pass: less memory, about a third more arithmetic
    config.loss = "dice_cross_entropy"  # a key of losses.LOSSES
    config.mitigation = _mitigation()
    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # adamw, sgd
    optimizer.learning_rate = 2e-3  # 0 to 1000, at the end of the warm-up
    optimizer.schedule = "cosine"  # or "constant"
    optimizer.warmup_steps = 50  # steps of linear warm-up, 0 or more
    optimizer.weight_decay = 0.0  # 0 to 1000; adamw only
    optimizer.clip_norm = 1.0  # largest norm of the gradient; 0: no clipping
    config.augment = _augment()
    config.train = train = ConfigDict()
    train.batch_size = 8  # cases, over all devices
    train.steps = 1000  # 1 to 10,000,000
    train.eval_every = 100  # steps; each evaluation writes a checkpoint
    train.log_every = 20  # steps
    train.accumulation = (
        1  # micro-batches of a batch; norm "batch" then normalizes each by its own statistics
    )
    # Steps of one program; more than 1 saves time on a CPU, and takes as many times as long to compile. Lines of the
    # log, checkpoints after a signal and traces then begin and end with a call.
    train.steps_per_call = 1
    train.ema = (
        0.0  # decay of a moving average of the weights, 0 to 0.99999, which is scored and exported; 0: none
    )
    train.profile = ()  # (first, last) step of a trace for TensorBoard, in the run's folder `profile`; (): none
    config.parallel = "jit"  # over devices; or "pmap", with the same result
    config.select = "overall"  # rule that selects the run's checkpoint: overall, worst_group, utopia
    config.check = ConfigDict()
    config.check.against = (
        "auto"  # checkpoint that --mode=check compares masks with; auto: the shipped one; "": none
    )
    config.report = _report()
    return config


def _data() -> ConfigDict:
    """Return the fields of `data` that every source reads."""
    data = ConfigDict()
    data.seed = 0  # of the split, and of phantoms
    data.size = (128, 128)  # height and width of the working resolution, pixels
    data.attributes = ("sex", "race")  # columns to report by, alone and in pairs (report.intersections)
    data.levels = (
        ConfigDict()
    )  # attribute -> the levels to keep; cases of other levels are excluded and listed
    data.fractions = (0.7, 0.15, 0.15)  # of the patients: train, validation, test
    data.folds = 0  # k, 2 to 100: k-fold cross-validation by patient, a run each; 0: one split
    data.fold = -1  # the fold to run, from 0; -1: all of them, one after another
    data.store = ""  # folder of the prepared cases; "": the run's folder
    data.workers = 2  # processes that read files during preparation, 0 to 1024; 0: the run's own process
    data.beam = ""  # flags of an Apache Beam pipeline to prepare in, "--runner=DirectRunner"; "": none
    data.on_read_error = "stop"  # at an unreadable case; "skip" excludes it and lists it in excluded.csv
    return data


def _mitigation() -> ConfigDict:
    """Return the parts of a mitigation: sampler x objective x head x schedule, each with its method's settings.

    A setting that the named method does not read keeps its default. `configs/mitigations.py` has the usual methods.
    """
    mitigation = ConfigDict()
    mitigation.groups = ("sex",)  # attributes whose levels are the groups; several: their intersections
    mitigation.sharpness = 0.0  # radius of sharpness-aware minimization, 0 to 100, at twice the time; 0: none
    mitigation.sampler = ConfigDict()
    mitigation.sampler.name = (
        "shuffled"  # order of cases: proportional, undersampled, oversampled, equal_share
    )
    mitigation.objective = objective = ConfigDict()
    objective.name = "erm"  # a key of mitigation.OBJECTIVES
    objective.eta = 0.1  # group_dro: step size of the groups' weights, 0 to 1000
    objective.adjustment = 0.0  # group_dro: C of C / sqrt(patients of a group), 0 or more
    objective.alpha = 0.5  # cvar_dro, within_group_cvar: share of the worst examples, above 0 to 1
    objective.penalty = 1.0  # gap_penalty, vrex: weight of the penalty, 0 or more
    objective.anneal_steps = 0  # vrex: steps with a penalty of 1 before `penalty`; 0: none
    objective.power = 1.0  # error_bound: exponent of the groups' relative losses, 0 to 100
    mitigation.head = head = ConfigDict()
    head.name = "none"  # extra part of the network: attribute_head, adversarial, moe
    head.strength = 0.1  # attribute_head, adversarial: weight of the part's own loss, 0 to 10,000
    head.ramp = False  # adversarial: strength x (2 / (1 + exp(-10 p)) - 1), p the share of completed steps
    mitigation.schedule = schedule = ConfigDict()
    schedule.name = "single"  # stages: group_specific, distilled, jtt, last_layer
    schedule.start = "scratch"  # group_specific, distilled: where a group's model starts; or "pooled"
    schedule.distillation = 1.0  # distilled: weight of the divergence from the teachers, 0 to 10,000
    schedule.temperature = 1.0  # distilled: of the teachers' and the student's probabilities, above 0 to 1000
    schedule.extra_steps = 100  # steps of the shorter stage: jtt's first, last_layer's second
    schedule.share = 0.2  # jtt: of the cases to weight up; last_layer: of each group's patients to hold out
    schedule.upweight = 5.0  # jtt: weight of those cases, 1 to 10,000
    return mitigation


def _augment() -> ConfigDict:
    """Return the largest strengths of the random variation; `data.augment.Augmentation` defines each."""
    augment = ConfigDict()
    augment.flip = 0.5  # probability of a left-right flip
    augment.rotation = 10.0  # degrees, 0 to 180
    augment.scale = 0.1  # relative change of size, 0 to 10
    augment.stretch = 0.0  # relative change of width against height, 0 to 10
    augment.shear = 0.0  # pixels across for each pixel down, 0 to 1
    augment.shift = 0.05  # share of height and width, 0 to 1
    augment.elastic = 0.0  # share of height and width, 0 to 1/16
    augment.gamma = 0.5  # log2 of the exponent of the gray values, 0 to 10
    augment.contrast = 0.2  # relative change about the mean, 0 to 1
    augment.blur = 0.0  # standard deviation in pixels, 0 to 100
    augment.noise = 0.02  # standard deviation, 0 to 10; gray values span 0 to 1
    augment.cut_out = 0.0  # sides of a rectangle as a share of height and width, 0 to 1
    augment.marker = 0.0  # probability of a side marker
    augment.collimation = 0.0  # probability of a border without bone
    augment.invert = 0.0  # probability of inverted gray values
    return augment


def _report() -> ConfigDict:
    """Return the fields of the report."""
    report = ConfigDict()
    report.author = ""  # who made the report, for its page
    report.min_group_patients = 10  # smaller groups are shown but not ranked
    # Score -> margin, of means and as a share of failure rates: dice=0.01. Empty: no claim of equivalence.
    report.equivalence_margin = ConfigDict()
    report.failure_dice = 0.5  # a segmentation with a lower Dice of any structure counts as failed; 0 to 1
    report.endpoints = ("dice>=0.9", "hd95_mm<=5")  # shares of patients who reach them in every structure
    report.primary = "dice"  # the score of the primary family, and its attributes if not all: "dice:sex,race"
    report.intersections = True  # also report by pairs of attributes
    report.bootstrap_draws = 10_000  # resamples of patients for each interval
    report.resolution = (
        "native"  # score at the masks' own size and spacing; "working": as the network sees them
    )
    # Measure the test knees in millimeters and degrees, and compare the errors by group.
    report.measurements = False
    report.attribute_leakage = (
        False  # how well image, crop, mask and features predict the attributes; reads every case again
    )
    return report


def folder() -> ConfigDict:
    """Return the fields of `data` that the source "folder" reads."""
    data = ConfigDict()
    data.source = "folder"  # a key of cohort_loader.SOURCES
    data.root = ""  # the folder; required
    data.metadata = "metadata.csv"  # case_id, patient_id, image, mask, attributes; spacing_mm if known
    # knee, knees, chest, or the names of labels 1, 2, ... by comma, or with their values in the masks, "femur=255";
    # auto: the labels of the masks, no flips. A cell "masks/a" of the column mask stands for one file a structure:
    # masks/a_femur.png, ...
    data.structures = "auto"
    # The value of void pixels in the masks (not annotated, outside the field of view), often 255: losses and scores
    # exclude them, as an audit does with --labels ... ignore=255. -1: none.
    data.ignore_label = -1
    data.channels = 1  # 1: gray; 3: color
    data.bins = ConfigDict()  # numeric column -> ascending edges: age (50.0, 64.0) is <=50, 51-64, >=65
    data.split_column = ""  # a column of train, validation and test; "": the seed splits the patients
    # A column of the structures that a case's mask shows, "femur;tibia" or "whole femur", where not all were annotated:
    # losses and scores leave out the others. An empty cell stands for all structures. "": all masks show all.
    data.annotated_column = ""
    # How to lay out a mask on its radiograph where one header or both state no orientation: none (as displayed), stored
    # (as stored pixels lie), flip-lr, flip-ud, rotate-180, transpose, rotate-90, rotate-270, anti-transpose; "": refuse
    # the masks whose headers leave it open. Where both headers state one, they decide. `--mode=check` names what fits.
    data.orientation = ""
    data.allow_similar_ids = False  # True accepts identifiers and levels that look alike: 7 and 0007, F and f
    data.update(external())
    del data.external_in_front  # of phantoms' overlap classes
    return data


def external() -> ConfigDict:
    """Return the fields of `data` for an external cohort: a folder of radiographs for evaluation alone."""
    data = ConfigDict()
    data.external = ""  # a folder with the layout of configs/folder.py; "": none
    data.metadata = "metadata.csv"  # the table in that folder, as in `folder`
    data.bins = ConfigDict()  # as in `folder`
    data.external_structures = ""  # its labels, where they differ: "whole femur,tibia"; "": the same
    data.external_in_front = (
        ""  # "fibula": its masks draw the fibula over the tibia (of overlap classes); or "tibia"
    )
    data.external_orientation = ""  # of its masks, as data.orientation of `folder`
    data.external_ignore_label = -1  # the value of void pixels in its masks, often 255; -1: none
    return data


def oai() -> ConfigDict:
    """Return the fields of `data` that the source "oai" reads."""
    data = ConfigDict()
    data.source = "oai"  # a key of cohort_loader.SOURCES
    data.root = ""  # the folder that holds 00m, 12m, ...; required
    data.masks = ""  # the folder of masks; required
    data.tables = ""  # the folder of the tables; "": data.root
    data.visits = ("00",)  # 00 baseline, 01 12 months, 03 24, 05 36, 06 48, 08 72, 10 96
    data.orientation = ""  # as in `folder`
    data.knees = "film"  # a case is a radiograph with 8 structures; "split": a knee with 4
    data.mirror = False  # of split knees, mirror the left ones: every fibula is at image left
    data.bins = ConfigDict({"age": (50.0, 64.0)})  # the study's: <=50, 51-64, 65-79
    # Codes or labels by comma that a radiograph must have in XRay00 (V00ACCEPT at baseline); one without a reading is
    # then excluded. "": any radiograph.
    data.quality = quality = ConfigDict()
    for name in ("ACCEPT", "ALIGN", "CENTER", "DEPICT", "EXPOSE", "MOTION", "POSITN"):
        quality[name] = ""
    data.allow_similar_ids = False  # True accepts identifiers and levels that look alike: 7 and 0007, F and f
    return data


def siddiqui() -> ConfigDict:
    """Return the fields of `data` that the source "siddiqui" reads: the OAI's, with one visit and its own masks."""
    data = oai()
    data.source = "siddiqui"  # a key of cohort_loader.SOURCES
    data.visit = "00"  # of the radiographs, as in data.visits of `oai`
    del data.visits, data.masks
    return data


def phantom() -> ConfigDict:
    """Return the fields of `data` that the source "phantom" reads."""
    data = ConfigDict()
    data.source = "phantom"  # a key of cohort_loader.SOURCES
    data.phantom = settings = ConfigDict()
    settings.patients = 300  # 1 to 1,000,000
    settings.knees_per_patient = 1  # or 2
    settings.bilateral = False  # one knee on a radiograph; True: both
    settings.attributes = ConfigDict()  # attribute -> level -> share of the patients
    settings.bias = (
        ConfigDict()
    )  # group, "race=B" -> switch of kneefair_jax.data.phantom.SWITCHES -> strength, 0 to 1
    settings.fov_mm = (140.0, 140.0)  # smallest and largest height of an image, mm, 1 to 2000
    settings.randomisation = (
        0.0,
        0.0,
    )  # smallest and largest; 0: the clinical range, 1: far wider than reality
    settings.masks = (
        "annotated"  # with the error of the switch `annotation`; "exact"; "exact_test": in the test split
    )
    settings.structures = "knee"  # or "knee_overlaps": overlap classes, for whole bones
    settings.films = (
        "plain"  # "varied": with weak patellae, processed contrast, tight crops, implants and more
    )
    settings.online = False  # True: the training step draws every training case anew
    return data


def study(title: str, settings: dict[str, dict[str, Any]]) -> ConfigDict:
    """Return the section `study`, which `--mode=study` reads beside the fields of a run.

    Args:
        title: of the page.
        settings: of every method by name: the fields of `mitigation` that it changes; `erm` changes none.
    """
    section = ConfigDict()
    section.title = title
    section.description = ""  # a sentence for the page
    section.methods = tuple(settings)  # keys of `settings`
    section.seeds = (0, 1, 2)  # of the runs, 1 to 1000 of them; the patients are those of data.seed
    section.settings = ConfigDict(settings)
    section.oracle = False  # phantoms with the switch representation: `erm` without it is the oracle
    section.sweep = ()  # strengths of that switch, 0 to 1
    section.sweep_methods = ("erm",)  # the methods to run at each
    section.bootstrap_draws = 10_000  # resamples of patients for each interval of the comparison
    return section
