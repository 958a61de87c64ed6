"""Load a config file and its flags; errors become one line with the file and line, or the field, and the remedy.

A config is a Python file, the name of a shipped one (`folder` is `configs/folder.py`), or the `config.json` of a run.
"""

import difflib
import re
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

import kneefair_jax
from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import run_files

SHIPPED = Path(kneefair_jax.__file__).parent / "configs"

# A line that gives a part of the mitigation a method's name; the part is a section now.
_SECTION = re.compile(r"\bmitigation\b.*\b(sampler|objective|head|schedule)\b(?!\.)")
# ml_collections' error for a section that is set to a name.
_OVERRIDE = re.compile(r"override field '(sampler|objective|head|schedule)'")
# Absl's error for a value of another type.
_ILLEGAL = re.compile(r"flag --config\.([\w.]+)=(.*?): ", re.DOTALL)
_REMEDY = "correct it, or start from one of configs/"
_PARTS = ("default", "mitigations", "paper/recipe")  # of other configs


def load(path: str) -> ConfigDict:
    """Return the result of a config file's `get_config`, or the config of a run.

    A config file is the user's own program: unlike data and run folders, it is executed.

    Args:
        path: of the file, or the name of a shipped one, each also with an argument that goes to `get_config`,
            `FILE:ARGUMENT`; or the `config.json` of a run.

    Raises:
        InputError: there is no such file, it raises an error or exits, has no `get_config`, or returns no `ConfigDict`.
    """
    file, *argument = path.split(":", 1)
    if file.endswith(".json"):
        return of_run(Path(file))
    return _execute(find(file), argument)


def require(path: str) -> None:
    """Refuse the name of a config that does not exist, without executing it.

    Raises:
        InputError: as for `find` and `of_run`.
    """
    file = path.partition(":")[0]
    if file.endswith(".json"):
        of_run(Path(file))
    else:
        find(file)


def find(file: str) -> str:
    """Return the path of a config file, or of the shipped config of that name.

    Raises:
        InputError: there is neither; the message has a near name, or all of them.
    """
    if Path(file).is_file():
        return file
    shipped = SHIPPED / f"{file}.py"
    if file in names():
        return str(shipped)
    near = difflib.get_close_matches(file, names(), n=1)
    guess = f"did you mean {near[0]!r}?" if near else f"give a file, or one of {', '.join(names())}"
    raise InputError(f"the config cannot be loaded: {file!r} is no file and no shipped config; {guess}")


def names() -> list[str]:
    """Return the names of the shipped configs, such as `folder` and `paper/oai`."""
    paths = [path.relative_to(SHIPPED) for pattern in ("*.py", "*/*.py") for path in SHIPPED.glob(pattern)]
    return sorted({path.with_suffix("").as_posix() for path in paths}.difference(_PARTS))


def of_run(path: Path) -> ConfigDict:
    """Return the config of a run from its `config.json`, in which JSON's lists are the config's tuples.

    Raises:
        InputError: the file cannot be used.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give the folder of a run, which has a config.json")
    return ConfigDict(_with_tuples(run_files.read_config(path)))


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _execute(file: str, argument: Sequence[str]) -> ConfigDict:
    """Return the result of `get_config` of a file, with its argument if there is one."""
    try:
        loader = SourceFileLoader("config_file", file)
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise InputError(f"{file}: there is no function get_config(); {_REMEDY}")
        config = get_config(*argument)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{_place(error, file)}: {_reason(error, file)}; {_REMEDY}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"{file}: get_config() returns {type(config).__name__}, not a ConfigDict; {_REMEDY}")
    return config


def _place(error: BaseException, file: str) -> str:
    """Return the file and the line of a syntax error, or the last line of the config file that led to another error."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    frames = _frames(error, file)
    return f"{file}, line {frames[-1].lineno}" if frames else file


def _frames(error: BaseException, file: str) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if Path(frame.filename) == Path(file)]


def _reason(error: BaseException, file: str) -> str:
    """Return the error's type and message, with the new name of a section that was a method's name."""
    text = error.msg if isinstance(error, SyntaxError) else describe(error)
    reason = f"{type(error).__name__}: {text}"
    lines = [frame.line or "" for frame in _frames(error, file)[-1:]]
    if match := next(filter(None, map(_SECTION.search, lines)), None) or _OVERRIDE.search(text):
        reason += f" (mitigation.{match[1]} is now mitigation.{match[1]}.name)"
    return reason


class Parser(flags.ArgumentParser[ConfigDict]):
    """Absl's parser of the flag `--config`, by `load`."""

    def __init__(self) -> None:
        self._config = ConfigDict()

    def parse(self, path: str) -> ConfigDict:
        """Return the locked config of a file."""
        self._config = load(path)
        self._config.lock()
        return self._config

    def describe_error(self, error: Exception, fields: Sequence[str]) -> str:
        """Describe an error of absl or ml_collections about the flag of a field.

        Args:
            error: raised while the flags were parsed.
            fields: the fields that flags set, such as `config.train.steps`.
        """
        # Imported late: it needs JAX, and `require` is called before that is loaded.
        from kneefair_jax.training import config_fields

        if isinstance(error.__context__, InputError):  # absl puts the flag with its whole value before it
            return str(error.__context__)
        if isinstance(error, AttributeError | KeyError):
            names = [field.removeprefix("config.") for field in fields]
            if unknown := [name for name in names if not _has_field(self._config, name)]:
                source = self._config.get("data", ConfigDict()).get("source", "")
                return config_fields.describe_unknown(unknown[0], source)
        if match := _ILLEGAL.match(str(error)):
            return config_fields.describe_illegal(match[1], match[2])
        return str(error)


def _has_field(config: ConfigDict, field: str) -> bool:
    value: Any = config
    for name in field.split("."):
        if not isinstance(value, ConfigDict) or name not in value:
            return False
        value = value[name]
    return True
