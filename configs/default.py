"""Every field there is, with its default; the other configs change a few and say what they are for."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The fields that all configs share."""
    config = ConfigDict()
    config.seed = 0  # of the parameters, the order of cases, augmentation, the bootstrap

    config.init_from = ""  # trained weights: "phantom", a .safetensors file, an exported run; "" draws them

    config.data = data = ConfigDict()
    data.seed = 0  # of the split, and of phantoms
    data.size = (128, 128)  # height and width of the working grid, pixels
    data.attributes = ("sex", "race")  # columns to report by, alone and in pairs (report.intersections)
    data.levels = ConfigDict()  # attribute -> the levels to keep; cases of others are left out, and listed
    data.fractions = (0.7, 0.15, 0.15)  # of the patients: train, validation, test
    data.folds = 0  # k > 0: k-fold cross-validation by patient; each fold is a run of its own
    data.fold = -1  # which fold to run; -1: all of them, one after another
    data.store = ""  # where prepared cases are kept; "" is the run's folder
    data.workers = 2  # processes that read files during preparation; 0: none but the run's own
    data.beam = ""  # flags of an Apache Beam pipeline to prepare in, "--runner=DirectRunner"; "" for none
    data.on_read_error = "stop"  # at an unreadable case; "skip" excludes it and lists it in excluded.csv

    config.model = model = ConfigDict()
    model.name = "unet"  # resnet18_unet, resnet34_unet: with five widths and norm "batch"
    model.weights = (
        ""  # of a ResNet's encoder: a safetensors file, named as in torchvision or timm; "" for random
    )
    model.widths = (8, 16, 32, 64, 128)  # channels at full resolution, at half, ...
    model.convolutions = 2  # 3 x 3 convolutions of a block
    model.norm = "batch"  # or "group"
    model.dtype = (
        "float32"  # of the computation, or "bfloat16"; parameters, statistics and losses stay float32
    )
    model.remat = (
        False  # blocks keep nothing for the backward pass: less memory, about a third more arithmetic
    )

    config.loss = "dice_cross_entropy"  # a key of losses.LOSSES

    # What is done about groups: sampler x objective x head x schedule; configs/mitigations.py names the usual ones.
    config.mitigation = mitigation = ConfigDict()
    mitigation.groups = ("sex",)  # the partition it sees: an attribute, or several for their intersection
    mitigation.sampler = "shuffled"  # which case next: proportional, undersampled, oversampled, equal_share
    mitigation.objective = "erm"  # a key of mitigation.OBJECTIVES
    mitigation.head = "none"  # a part of the network: attribute_head, adversarial, moe
    mitigation.schedule = "single"  # stages: group_specific, distilled, jtt, last_layer
    mitigation.eta = 0.1  # group_dro: step size of the groups' weights
    mitigation.adjustment = 0.0  # group_dro: C of C / sqrt(patients of a group)
    mitigation.alpha = 0.5  # cvar_dro, within_group_cvar: share of the worst examples
    mitigation.penalty = 1.0  # gap_penalty, vrex
    mitigation.anneal_steps = 0  # vrex: steps with a penalty of 1 before the stated one; 0 for none
    mitigation.power = 1.0  # error_bound
    mitigation.strength = 0.1  # attribute_head, adversarial: of the part's own loss
    mitigation.ramp = (
        False  # adversarial: strength x (2 / (1 + exp(-10 p)) - 1), p the share of the steps done
    )
    mitigation.distillation = 1.0  # distilled: weight of the divergence from the teachers
    mitigation.temperature = 1.0  # distilled: of teachers' and student's probabilities
    mitigation.sharpness = 0.0  # radius of sharpness-aware minimisation, at twice the time; 0 for none
    mitigation.start = "scratch"  # group_specific, distilled: where a group's model starts; or "pooled"
    mitigation.extra_steps = 100  # of jtt's first run; of last_layer's second
    mitigation.share = 0.2  # jtt: of the cases that count more; last_layer: of each group's patients held out
    mitigation.upweight = 5.0  # jtt: how much more

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # adamw, sgd
    optimizer.learning_rate = 2e-3
    optimizer.schedule = "cosine"  # or "constant"
    optimizer.warmup_steps = 50
    optimizer.weight_decay = 0.0  # adamw only
    optimizer.clip_norm = 1.0  # of the gradient; 0 for none

    config.augment = augment = ConfigDict()  # strengths; see data.augment.Augmentation for units
    augment.flip = 0.5
    augment.rotation = 10.0
    augment.scale = 0.1
    augment.stretch = 0.0
    augment.shear = 0.0
    augment.shift = 0.05
    augment.elastic = 0.0
    augment.gamma = 0.5
    augment.contrast = 0.2
    augment.blur = 0.0
    augment.noise = 0.02
    augment.cut_out = 0.0
    augment.marker = 0.0
    augment.collimation = 0.0
    augment.invert = 0.0

    config.train = train = ConfigDict()
    train.batch_size = 8
    train.steps = 1000
    train.eval_every = 100  # evaluations are checkpoints
    train.log_every = 20
    train.accumulation = (
        1  # k: a batch in k parts, one after another; norm "batch" then sees a part at a time
    )
    train.ema = 0.0  # decay of a moving average of the weights, which is what is scored and exported; 0: none
    train.profile = ()  # (first, last) step of a trace for TensorBoard, in the run's folder profile; () for none

    config.parallel = "jit"  # over devices; or "pmap", with the same result

    config.select = "overall"  # the checkpoint that is the run's: overall, worst_group, utopia

    config.check = ConfigDict()
    config.check.against = (
        "auto"  # --mode=check compares masks with this checkpoint's; auto: that which ships; "" for none
    )

    config.report = report = ConfigDict()
    report.min_group_patients = 10  # smaller groups are shown but not ranked
    report.delta = (
        ConfigDict()
    )  # score -> equivalence margin, of means and as a share of failure rates: dice=0.01; none claims it
    report.failure_dice = 0.5  # a segmentation with a lower Dice of any structure counts as failed
    report.endpoints = ("dice>=0.9", "hd95_mm<=5")  # shares of patients who reach them in every structure
    report.primary = "dice"  # the score of the primary family, and its attributes if not all: "dice:sex,race"
    report.intersections = True  # also report by pairs of attributes
    report.bootstrap_draws = 10_000  # resamples of patients for each interval
    report.resolution = "source"  # score at the masks' own size and spacing; "grid": on the working grid
    report.root_cause = (
        False  # how well image, crop, mask and features tell the attributes: reads every case again
    )
    return config
