"""Numbers without bounds, values of the wrong type, and config files that cannot be loaded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.hostile_inputs import Kind
from tests.audit.folder import write_table
from tests.films import folder as write_films
from tests.predict.networks import write as write_network

ROOT = Path(__file__).parents[2]
# A field of the config and a value that it cannot have.
_FIELDS = {
    "negative seed": "seed=-1",
    "seed of 2**32": "seed=4294967296",
    "split seed of 2**40": "data.seed=1099511627776",
    "size of 0": "data.size=(0,16)",
    "size of a million pixels a side": "data.size=(1000000,1000000)",
    "three sizes": "data.size=(16,16,16)",
    "size as one number": "data.size=16",
    "negative folds": "data.folds=-2",
    "more folds than patients": "data.folds=100",
    "a billion folds": "data.folds=1000000000",
    "fractions of NaN": "data.fractions=(float('nan'),0.5,0.5)",
    "negative workers": "data.workers=-3",
    "a million workers": "data.workers=1000000",
    "no widths": "model.widths=()",
    "widths of a million channels": "model.widths=(1000000,1000000)",
    "forty widths": f"model.widths=({'2,' * 40})",
    "widths as text": "model.widths=('a','b')",
    "a million convolutions": "model.convolutions=1000000",
    "no steps": "train.steps=0",
    "steps of 1e18": "train.steps=1000000000000000000",
    "batch larger than memory": "train.batch_size=1000000000",
    "batch of no whole number": "train.batch_size=2.5",
    "steps as a word": "train.steps=many",
    "learning rate of NaN": "optimizer.learning_rate=nan",
    "infinite learning rate": "optimizer.learning_rate=inf",
    "negative learning rate": "optimizer.learning_rate=-0.001",
    "infinite weight decay": "optimizer.weight_decay=inf",
    "rotation of NaN": "augment.rotation=nan",
    "infinite blur": "augment.blur=inf",
    "a hundred million draws": "report.bootstrap_draws=100000000",
    "groups of no patient": "report.min_group_patients=0",
    "profile of the steps before the first": "train.profile=(-5,-1)",
    "switch that is neither true nor false": "model.remat=5",
    "infinite group weights": "mitigation.objective.eta=inf",
}
_CONFIG_FILES = {
    "syntax error": ("def get_config():\n    return (\n", "config.py"),
    "exception": ("def get_config():\n    return {}['absent']\n", "config.py"),
    "no get_config": ("config = 3\n", "config.py"),
    "missing module": ("import a_module_that_is_missing\n\ndef get_config():\n    return 3\n", "config.py"),
    "no section": (
        "from configs import folder\n\ndef get_config():\n    c = folder.get_config()\n    del c.data\n    return c\n",
        "config.data",
    ),
    "no field": (
        "from configs import folder\n\ndef get_config():\n    c = folder.get_config()\n    del c.train.steps\n"
        "    return c\n",
        "config.train.steps",
    ),
    "number for a config": ("def get_config():\n    return 3\n", "config.py"),
    "dict for a config": ("def get_config():\n    return {'seed': 0}\n", "config"),
    "number for a section": (
        "from configs import folder\n\ndef get_config():\n    c = folder.get_config()\n"
        "    del c.train\n    c.train = 5\n    return c\n",
        "config.train",
    ),
    "text for a number": (
        "from configs import folder\n\ndef get_config():\n    c = folder.get_config()\n"
        "    del c.train.steps\n    c.train.steps = 'many'\n    return c\n",
        "config.train.steps",
    ),
    "exit": ("import sys\n\ndef get_config():\n    sys.exit(0)\n", "config.py"),
    "not text": ("\x00\x01\x02", "config.py"),
    "endless recursion": ("def get_config():\n    return get_config()\n", "config.py"),
    "misspelled field": (
        "from configs import folder\n\ndef get_config():\n    c = folder.get_config()\n"
        "    c.train.stepz = 5\n    return c\n",
        "config.train.stepz",
    ),
}
_AUDIT = {
    "draws of 1e8": ("--draws", "100000000"),
    "negative draws": ("--draws", "-5"),
    "draws as a word": ("--draws", "many"),
    "negative seed": ("--seed", "-1"),
    "seed of 2**40": ("--seed", str(2**40)),
    "no patients a group": ("--min-group-patients", "0"),
    "margin of NaN": ("--delta", "dice=nan"),
    "bin edges of NaN": ("--bins", "sex=nan"),
}
_PREDICT = {
    "batch of a million million": ("--batch-size", "1000000000000"),
    "batch of 0": ("--batch-size", "0"),
    "batch as a word": ("--batch-size", "many"),
    "infinite spacing": ("--spacing", "inf"),
}
_PHANTOM = {
    "size of 0": ("--size", "0"),
    "size of a million": ("--size", "1000000"),
    "negative seed": ("--seed", "-1"),
}
_STUDY = {
    "no seeds": "study.seeds=()",
    "negative seed": "study.seeds=(-1,0)",
    "a hundred million draws": "study.bootstrap_draws=100000000",
    "infinite setting": "study.settings.group_dro.objective.eta=inf",
}
_CLUSTER = {
    "port of 99999": ("--coordinator=localhost:99999", "--processes=2", "--process=1"),
    "no port": ("--coordinator=localhost", "--processes=2", "--process=1"),
    "negative process": ("--coordinator=localhost:1234", "--processes=2", "--process=-7"),
    "a billion processes": ("--coordinator=localhost:1234", "--processes=1000000000", "--process=1"),
}


def launch(folder: Path, *flags: str, config: str = str(ROOT / "configs" / "folder.py")) -> list[str]:
    """Return the command of a small run of the films in a folder, which it writes."""
    write_films(folder / "films")
    return [
        str(ROOT / "launch.py"),
        f"--config={config}",
        "--workdir=out",
        "--config.data.root=films",
        *flags,
    ]


def _config_file(text: str, folder: Path) -> list[str]:
    (folder / "config.py").write_text(text)
    return [str(ROOT / "launch.py"), "--config=config.py", "--workdir=out"]


def _study(flag: str, folder: Path) -> list[str]:
    config = str(ROOT / "configs" / "study_folder.py")
    return launch(folder, "--mode=study", "--config.mitigation.groups=('sex',)", flag, config=config)


def _audit(flags: tuple[str, ...], folder: Path) -> list[str]:
    rows = [
        {"case_id": f"c{i}", "structure": "femur", "dice": 0.9 - i % 7 / 50, "sex": "fm"[i % 2]}
        for i in range(40)
    ]
    write_table(folder / "scores.csv", rows)
    return [
        "-m",
        "kneefair_jax.audit",
        "--scores",
        "scores.csv",
        "--attributes",
        "sex",
        "--out",
        "out",
        *flags,
    ]


def _predict(flags: tuple[str, ...], folder: Path) -> list[str]:
    write_network(folder / "w.safetensors")
    write_films(folder / "films")
    return [
        *("-m", "kneefair_jax.predict", "--checkpoint", "w.safetensors", "--images", "films/images/0.png"),
        *("--out", "out", *flags),
    ]


def _phantom(flags: tuple[str, ...], folder: Path) -> list[str]:
    del folder
    return ["-m", "kneefair_jax.data.phantom", "--out", "out.png", *flags]


def _refused[T](family: str, make: Callable[[T, Path], list[str]], values: dict[str, T]) -> list[Kind]:
    return [Kind(f"{family}: {name}", partial(make, value), "refused") for name, value in values.items()]


KINDS = (
    *(
        Kind(
            f"config field: {name}",
            partial(lambda flag, folder: launch(folder, flag), f"--config.{field}"),
            "refused",
            field.partition("=")[0],
        )
        for name, field in _FIELDS.items()
    ),
    *(
        Kind(f"config file: {name}", partial(_config_file, text), "refused", mention)
        for name, (text, mention) in _CONFIG_FILES.items()
    ),
    *_refused("audit flag", _audit, _AUDIT),
    *_refused("predict flag", _predict, _PREDICT),
    *_refused("phantom flag", _phantom, _PHANTOM),
    *(
        Kind(f"study field: {name}", partial(_study, f"--config.{field}"), "refused", "study.")
        for name, field in _STUDY.items()
    ),
    *(
        Kind(
            f"cluster: {name}",
            partial(lambda flags, folder: launch(folder, *flags), flags),
            "refused",
            "--",
        )
        for name, flags in _CLUSTER.items()
    ),
    Kind(
        "cluster: coordinator that does not answer",
        lambda folder: launch(folder, "--coordinator=127.0.0.1:9", "--processes=2", "--process=1"),
        "refused",
        "127.0.0.1:9",
        seconds=120,  # the command waits for 60 s, in which a cluster may start the other processes
    ),
)
