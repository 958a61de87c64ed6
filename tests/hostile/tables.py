"""Tables as people have them: ids, ages, words and statistics that spreadsheets, DICOM and other tools write.

Sources: BrainFANS#84 and cual-id#42 (identifiers in scientific notation, zeros lost), PyNIDM#84 and #204, twixtools#24
(PatientID made a float), fairlearn#1155, #1698 and #1725 (missing attributes), qbicsoftware/data-manager-app#588
(UTF-16, tabs), asafdav/ng-csv#28 (semicolons), DICOM PatientAge, mazurowski-lab/finetune-SAM#29, MONAI#3977,
haoshao-nku/medical_seg#14, MIScnn#79 (background among the classes).
"""

import numpy as np

PATIENTS = 60
_RNG = np.random.default_rng(0)
IDS = 123456780000 + _RNG.permutation(PATIENTS) * 3  # hospital numbers of 12 digits
SEX = np.where(np.arange(PATIENTS) < 30, "F", "M")
AGE = _RNG.integers(45, 80, PATIENTS)
_LEVEL = 0.90 + 0.03 * _RNG.standard_normal(PATIENTS) + 0.02 * (SEX == "M")
DICE = np.clip(_LEVEL[:, None] + 0.005 * _RNG.standard_normal((PATIENTS, 2)), 0, 1)
WORDS = ("#N/A", "<NA>", "unknown", "-", "?", ".", "n.a.")


def scores(
    path,
    patient=lambda i, k: str(IDS[i]),
    sex=lambda i, k: SEX[i],
    age=lambda i: str(AGE[i]),
    dice=lambda value: f"{value:.4f}",
    sep=",",
    encoding="utf-8",
):
    """Writes a score table of 60 patients x 2 knees; the plain one without arguments."""
    lines = [sep.join(["case_id", "patient_id", "sex", "age", "dice"])]
    for i in range(PATIENTS):
        for k in range(2):
            cells = [f"c{i:03d}{'RL'[k]}", patient(i, k), sex(i, k), age(i), dice(DICE[i, k])]
            lines.append(sep.join(cells))
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def comma(value):
    """0,9123"""
    return f"{value:.4f}".replace(".", ",")


# Another dialect, the same numbers as the plain table.
DIALECTS = {
    "utf16_tabs": {"sep": "\t", "encoding": "utf-16"},
    "utf16_semicolons_commas": {"sep": ";", "encoding": "utf-16", "dice": comma},
    "utf8_mark": {"encoding": "utf-8-sig"},
    "semicolons": {"sep": ";"},
    "semicolons_commas": {"sep": ";", "dice": comma},
    "tabs": {"sep": "\t"},
    "tabs_commas": {"sep": "\t", "dice": comma},
    "bars": {"sep": "|"},
    "age_dicom": {"age": lambda i: f"{AGE[i]:03d}Y"},
    "age_dicom_without_zero": {"age": lambda i: f"{AGE[i]}y"},
}

# Refused; the message has the words.
REFUSED = {
    "id_scientific": ({"patient": lambda i, k: f"{IDS[i]:.5E}"}, ("row 2", "1.23457E+11")),
    "id_float": ({"patient": lambda i, k: f"{IDS[i]}.0"}, ("row 2", f"{IDS[0]}.0")),
    "id_float_in_one_visit": (
        {"patient": lambda i, k: f"{IDS[i]}{'.0' * k}"},
        ("row 3", f"'{IDS[0]}.0'", f"'{IDS[0]}' (row 2)", "60 problems", "--allow-similar-ids"),
    ),
    "id_zeros_in_one_visit": (
        {"patient": lambda i, k: f"{i:04d}" if k else str(i)},
        ("row 3", "'0' (row 2)", "'0000'", "60 problems", "--allow-similar-ids"),
    ),
    "id_case_in_one_visit": (
        {"patient": lambda i, k: f"{'pP'[k]}{i:03d}"},
        ("row 3", "'p000' (row 2)", "'P000'", "60 problems"),
    ),
    "id_zeros_inside": (
        {"patient": lambda i, k: f"site-{i % 3:02d}-{i:03d}" if k else f"site-{i % 3}-{i}"},
        ("row 3", "'site-0-0' (row 2)", "'site-00-000'", "60 problems", "--allow-similar-ids"),
    ),
    "id_zero_width": ({"patient": lambda i, k: f"p{i}" + "\u200b" * k}, ("row 3", "60 problems")),
    "id_accents": (
        {"patient": lambda i, k: ("caf\u00e9", "cafe\u0301")[k] + str(i)},
        ("row 3", "60 problems"),
    ),
    "id_full_width": (
        {"patient": lambda i, k: (f"{i + 1}", f"{i + 1}".translate(WIDE))[k]},
        ("60 problems",),
    ),
    "id_merged_cells": (
        {"patient": lambda i, k: "" if k else str(IDS[i])},
        ("row 3", "patient_id", "unmerge"),
    ),
    "sex_case": ({"sex": lambda i, k: SEX[i].lower() if i == 7 else SEX[i]}, ("row 16", "'f'", "'F'")),
    "sex_full_width": ({"sex": lambda i, k: "\uff26" if i == 7 else SEX[i]}, ("row 16", "\uff26")),
    "sex_zero_width": ({"sex": lambda i, k: "F\u200d" if i == 7 else SEX[i]}, ("row 16",)),
    "sex_merged_cells": ({"sex": lambda i, k: "" if k else SEX[i]}, ("row 3", "sex", "repeat the value")),
    "sex_like_a_group": (
        {"sex": lambda i, k: '"F,age=>=65"' if i == 7 else SEX[i]},
        ("row 16", "'F,age=>=65'"),
    ),
    "age_birth_date": ({"age": lambda i: f"{2024 - AGE[i]}-03-01"}, ("row 2", "birth", "age in years")),
    "age_birth_date_dots": ({"age": lambda i: f"01.03.{2024 - AGE[i]}"}, ("row 2", "birth")),
    "age_birth_number": ({"age": lambda i: f"{2024 - AGE[i]}0301"}, ("row 2", "birth")),
    "age_birth_year": ({"age": lambda i: f"{2024 - AGE[i]}"}, ("row 2", "birth")),
    "age_decimal_comma": (
        {"age": lambda i: f'"{AGE[i]},5"'},
        ("row 2", "decimal comma", f"write {AGE[0]}.5"),
    ),
    "dice_decimal_comma": ({"dice": lambda value: f'"{comma(value)}"'}, ("row 2", "is not a finite number")),
    "dice_underscore": ({"dice": lambda value: "0_0"}, ("row 2", "'0_0'")),
    "utf16_without_mark": ({"encoding": "utf-16-le"}, ("UTF-8",)),
    "latin1": ({"sex": lambda i, k: "\u0081", "encoding": "latin-1"}, ("UTF-8",)),
}
WIDE = {ord("0") + n: 0xFF10 + n for n in range(10)}


def words(path):
    """Every fifth patient's sex is one of `WORDS`: 12 patients without a known sex."""
    return scores(path, sex=lambda i, k: WORDS[i % 7] if i % 5 == 0 else SEX[i])


CASES = 40
_TIBIA, _FEMUR = (np.clip(0.8 + 0.05 * n + 0.03 * _RNG.standard_normal(CASES), 0, 1) for n in range(2))
_BACKGROUND = 0.995 + 0.001 * _RNG.standard_normal(CASES)
# Rows of a long table, or columns `dice_...` of a wide one, that are no structures.
EXTRAS = {
    "background": {"background": lambda i: _BACKGROUND[i]},
    "background_capital": {"Background": lambda i: _BACKGROUND[i]},
    "class_0": {"0": lambda i: _BACKGROUND[i]},
    "class_0_in_words": {"class_0": lambda i: _BACKGROUND[i]},
    "mean_and_std": {
        "mean": lambda i: (_FEMUR[i] + _TIBIA[i]) / 2,
        "std": lambda i: abs(_FEMUR[i] - _TIBIA[i]) / 2,
    },
    "foreground_min_median": {
        "foreground": lambda i: (_FEMUR[i] + _TIBIA[i]) / 2,
        "min": lambda i: min(_FEMUR[i], _TIBIA[i]),
        "median": lambda i: (_FEMUR[i] + _TIBIA[i]) / 2,
    },
    "statistics_of_a_structure": {
        "femur_std": lambda i: 0.01,
        "femur_mean": lambda i: _FEMUR[i],
        "n": lambda i: 1,
    },
}


def long(path, extra=None):
    """A row per case and structure; `extra` are further rows of each case."""
    lines = ["case_id,sex,structure,dice"]
    for i in range(CASES):
        of = {
            "femur": _FEMUR[i],
            "tibia": _TIBIA[i],
            **{name: make(i) for name, make in (extra or {}).items()},
        }
        lines += [f"c{i:02d},{'FM'[i % 2]},{structure},{value:.4f}" for structure, value in of.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def wide(path, extra=None):
    """A row per case; `extra` are further columns."""
    extra = extra or {}
    lines = [",".join(["case_id", "sex", "dice_femur", "dice_tibia", *(f"dice_{name}" for name in extra)])]
    for i in range(CASES):
        values = [_FEMUR[i], _TIBIA[i], *(make(i) for make in extra.values())]
        lines.append(",".join([f"c{i:02d}", "FM"[i % 2], *(f"{value:.4f}" for value in values)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def groups_without_scores(path):
    """60 cases of 60 patients: sex F, M, missing and X; nobody of X has a score."""
    lines = ["case_id,patient_id,sex,structure,dice"]
    for i in range(60):
        sex = ("F", "M", "", "X")[i % 4]
        for structure in ("femur", "fibula"):
            absent = sex == "X" or (structure == "fibula" and i % 3 == 0)
            lines.append(
                f"c{i:02d},p{i:02d},{sex},{structure},{'' if absent else f'{0.8 + 0.1 * DICE[i, 0]:.4f}'}"
            )
    path.write_text("\n".join(lines) + "\n")
    return path


def folder(root, **columns):
    """24 radiographs and masks of 12 patients, 16 x 16 pixels; columns replace or extend those of the table."""
    from PIL import Image

    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    table = {
        "case_id": [f"c{i:02d}" for i in range(24)],
        "patient_id": [f"p{i // 2:02d}" for i in range(24)],
        "image": [f"images/{i}.png" for i in range(24)],
        "mask": [f"masks/{i}.png" for i in range(24)],
        "sex": ["fm"[i // 2 % 2] for i in range(24)],
    } | columns
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(root / f"images/{i}.png")
        mask = np.zeros((16, 16), np.uint8)
        mask[2 : 8 + i % 3, 3:12], mask[11:15, 3:12] = 1, 2
        Image.fromarray(mask).save(root / f"masks/{i}.png")
    rows = [",".join(table), *(",".join(row) for row in zip(*table.values(), strict=True))]
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root
