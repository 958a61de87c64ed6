import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kneefair_jax.cli import init_folder
from kneefair_jax.data import folder as folder_source
from kneefair_jax.data import label_map
from kneefair_jax.data.draft import cases
from kneefair_jax.data.readers import Mask
from kneefair_jax.errors import InputError
from kneefair_jax.runs import config_file
from tests.cli import clinic

SECRETS = [secret for patient in clinic.PATIENTS for secret in patient.secrets]
SECRETS += ["Elisabethkrankenhaus", "Domplatz", "Hausarzt", "Karla", "20210512", "2021-05-12"]


@pytest.fixture
def root(tmp_path):
    return clinic.folder(tmp_path / "knees")


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        assert init_folder.main([str(argument) for argument in arguments]) == status
        streams = capsys.readouterr()
        return streams.out + streams.err

    return call


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def identifiers_in(text, secrets=SECRETS):
    # Three letters occur by chance in words and pseudonyms.
    patterns = {s: re.escape(s) if len(s) > 3 else rf"\b{re.escape(s)}\b" for s in secrets}
    return [secret for secret, pattern in patterns.items() if re.search(pattern, text, re.IGNORECASE)]


def source(root, **changes):
    config = {
        "root": str(root),
        "metadata": "metadata.csv",
        "structures": "femur,tibia",
        "attributes": ("sex", "age"),
        "bins": {"age": (50.0, 64.0)},
        "split_column": "",
        "on_read_error": "stop",
        **changes,
    }
    return folder_source.source(config, size=(16, 16), channels=1)


def test_a_folder_of_dicom_films_becomes_a_table_that_a_run_reads(root, run):
    output = run(root)
    table = read(root / "metadata.csv")
    assert len(table) == 8 and table["patient_id"].nunique() == 4
    assert table["case_id"].is_unique and set(table["case_id"].str[-2:]) == {"-1", "-2"}
    assert sorted(table["age"]) == sorted(["60", "89", "45", "73"] * 2)
    assert sorted(table["sex"].unique()) == ["female", "male"]
    assert set(table["side"]) == {"left", "right"} and set(table["view"]) == {"AP"}
    assert set(table["site"]) == {"site-1"} and set(table["manufacturer"]) == {"Carestream"}
    assert set(table["header_spacing_mm"]) == {"0.2x0.15"} and set(table["spacing_kind"]) == {"detector"}
    assert not identifiers_in(output + (root / "metadata.csv").read_text())
    for image, mask in zip(table["image"], table["mask"], strict=True):
        assert image.removeprefix("dicom/")[:-4] == mask.removeprefix("masks/").removesuffix("_mask.nii.gz")
    cohort = source(root)
    examples = list(cohort.read(range(8)))
    assert [example.label.max() for example in examples] == [2] * 8
    assert f"--config.data.root={root}" in output and "kneefair check --config=folder" in output


def test_counts_of_one_have_a_singular(tmp_path, run):
    root, patient = tmp_path / "knees", clinic.PATIENTS[0]
    clinic.film(root / "images/a.dcm", patient)
    clinic.mask(root / "masks/a.nii.gz")
    (tmp_path / "t.csv").write_text(
        f"PatientID,sex\n{patient.patient_id},{'mf'[patient.sex == 'M']}\nX-1,m\n"
    )
    output = run(root, "--table", tmp_path / "t.csv")
    assert "1 case of 1 patient," in output and "disagree (films: 1)" in output
    assert not re.findall(r"(?<![\d.])1 \w+s\b", output)


def test_a_patient_has_one_pseudonym_by_a_key_and_others_without_it(root, run, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    tables = []
    for arguments in (["--key", key], ["--key", key], []):
        run(root, *arguments, "--overwrite")
        tables.append(read(root / "metadata.csv"))
    assert tables[0].equals(tables[1])
    assert not set(tables[0]["patient_id"]) & set(tables[2]["patient_id"])
    assert all(re.fullmatch("[a-z]{8}", patient) for patient in tables[0]["patient_id"])
    key.write_bytes(b"short")
    assert "--key" in run(root, "--key", key, "--overwrite", status=2)


def test_paths_with_identifiers_are_refused_without_links(root, run, tmp_path):
    patient = clinic.PATIENTS[0]
    clinic.film(root / "dicom/Mueller_Anneliese_1961-04-17/x.dcm", patient)
    clinic.mask(root / "masks/Mueller_Anneliese_1961-04-17/x.nii.gz")
    output = run(root, status=2)
    assert "2 of 18 paths" in output and "--link-dir" in output
    assert not identifiers_in(output) and not (root / "metadata.csv").exists()
    links = tmp_path / "links"
    output = run(root, "--link-dir", links)
    names = "\n".join(str(path.relative_to(links)) for path in links.rglob("*"))
    assert not identifiers_in(output + names + (links / "metadata.csv").read_text())
    assert sorted(path.name for path in links.iterdir()) == [
        ".written-init.json",
        "images",
        "masks",
        "metadata.csv",
    ]
    assert not any(path.is_symlink() for path in links.rglob("*"))
    assert len(list(source(links).read(range(9)))) == 9
    assert "--overwrite" in run(root, "--link-dir", links, status=2)
    run(root, "--link-dir", links, "--overwrite")
    assert len(list(links.glob("images/*"))) == len(list(links.glob("masks/*"))) == 9
    assert "inside DIR" in run(root, "--link-dir", root / "links", status=2)


@pytest.mark.parametrize("kind", ["xlsx", "csv"])
def test_a_clinical_table_is_joined_before_pseudonyms(root, run, tmp_path, kind):
    rows = [
        ["Patienten-ID", "Nachname", "Geschlecht", "Alter", "BMI", "Herkunft"],
        *(
            [p.patient_id, p.name.split("^")[0], "mw"[p.sex == "F"], 60 + n, f"2{n},5", "EU" if n else p.name]
            for n, p in enumerate(clinic.PATIENTS[:3])
        ),
        ["UNKNOWN-77", "Niemand", "d", 50, "", ""],
    ]
    path = tmp_path / f"patients.{kind}"
    if kind == "xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in (["Knees"], [], *rows):  # a title, and another sheet
            book.active.append(row)
        book.create_sheet("legend").append(["m", "male"])
        book.save(path)
    else:
        path.write_bytes("\n".join(";".join(map(str, row)) for row in rows).encode("cp1252"))
    output = run(root, "--table", path, "--columns", "race=Herkunft")
    table = read(root / "metadata.csv")
    by_age = {row.age: row for row in table.itertuples()}
    assert set(by_age) == {"60", "61", "62", "73"}
    assert [by_age[age].bmi for age in ("60", "61", "62", "73")] == ["20.5", "21.5", "22.5", ""]
    assert [by_age[age].sex for age in ("60", "61")] == ["female", "male"]
    assert by_age["60"].race == "" and by_age["61"].race == "EU"
    assert "sex from 'Geschlecht'" in output and "films without a row in patients" in output
    assert "without a film: 1 of 4" in output and "bmi: 2 of 8" in output and "decimal commas" in output
    assert not identifiers_in(
        output + (root / "metadata.csv").read_text(), [*SECRETS, "UNKNOWN-77", "Niemand"]
    )


@pytest.mark.parametrize(
    ("cells", "arguments", "message"),
    [
        ("MRN,sex\n{0},1\n", [], r"t\.csv row 2: sex '1' .*--values sex:1="),
        ("MRN,Gendr\n{0},f\n", ["--columns", "sex=Gender"], r"did you mean 'Gendr'"),
        ("MRN,Gender,Sexe\n{0},f,f\n", [], r"t\.csv: 'Gender' and 'Sexe' .*--columns sex=Gender"),
        ("number,sex\n{0},f\n", [], r"t\.csv: no column states the patient's ID"),
        ("Fallnummer,sex\n{0},f\n", [], r"'Fallnummer' may .*--columns patient_id=Fallnummer$"),
        ("MRN,Patient,sex\n{0},{0},f\n", [], r"'MRN' and 'Patient' .*--columns patient_id=MRN"),
        ("MRN,sex,age\n{0},f,65,5\n", [], r"row 2: malformed CSV: 4 cells"),
        ("MRN,age\n{0},1960\n", [], r"row 2: age is neither"),
        ("MRN,age\n{0},999\n", [], r"row 2: age is not between 0 and 120"),
        ("MRN,DOB,StudyDate\n{0},03/04/1960,2020-01-01\n", [], r"row 2: a date .*write it as"),
        ("MRN,sex\n{0},f\n", ["--values", "race:1=White"], r"--values race"),
        ("MRN,sex\n{0},f\n", ["--columns", "sex"], r"--columns 'sex'"),
        ("MRN,sex\n{0},f\n", ["--patient-pattern", "P[0-9]+"], r"--patient-pattern .*0 groups"),
    ],
)
def test_tables_without_a_clear_meaning_are_refused(root, run, tmp_path, cells, arguments, message):
    path = tmp_path / "t.csv"
    path.write_text(cells.format(clinic.PATIENTS[0].patient_id))
    output = run(root, "--table", path, *arguments, status=2)
    assert re.search(message, output), output
    assert not (root / "metadata.csv").exists() and not identifiers_in(output)


def test_codes_dates_and_old_ages_of_a_table(root, run, tmp_path):
    path = tmp_path / "t.csv"
    lines = ["MRN,Gender,birth_date,exam_date"]
    births = ["21.03.1910", "1990-05-13", "", "1991-01-01"]
    for number, patient in enumerate(clinic.PATIENTS):
        lines.append(f"{patient.patient_id},{1 + (patient.sex == 'F')},{births[number]},2020-05-12")
    path.write_text("\n".join(lines))
    output = run(root, "--table", path, "--values", "sex:1=male,2=female")
    table = read(root / "metadata.csv")
    assert sorted(table["age"].unique()) == ["29", "45", "90"] and set(table["sex"]) == {"male", "female"}
    assert not identifiers_in(output + (root / "metadata.csv").read_text(), [*SECRETS, "1910", "1990"])


def test_dates_of_birth_in_a_column_of_ages(root, run, tmp_path):
    births = ["1991-05-12", "13.05.1931", "", "1948-02-29"]
    lines = [
        "MRN;Alter",
        *(f"{p.patient_id};{birth}" for p, birth in zip(clinic.PATIENTS, births, strict=True)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    output = run(root, "--table", tmp_path / "t.csv")  # the date of the examination is that of the header
    assert sorted(read(root / "metadata.csv")["age"].unique()) == ["30", "45", "73", "89"]
    text = output + (root / "metadata.csv").read_text()
    assert not identifiers_in(text, [*SECRETS, "1991", "1931", "1948"])
    lines = ["MRN;Geburtsdatum;Untersuchungsdatum", f"{clinic.PATIENTS[0].patient_id};13.05.1971;12.05.2021"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    run(root, "--table", tmp_path / "t.csv", "--overwrite")
    assert sorted(read(root / "metadata.csv")["age"].unique()) == ["45", "49", "73", "89"]


def test_masks_find_their_films(tmp_path, run):
    root = tmp_path / "knees"
    patient = clinic.PATIENTS[0]
    film = clinic.film(root / "a/flat.dcm", patient)
    clinic.mask(root / "masks/flat.nii.gz")  # one flat folder of masks
    clinic.film(root / "b/one.dcm", patient)
    clinic.mask(root / "b/seg/drawn.nii.gz")  # the only ones of their folder
    clinic.film(root / "c/same.dcm", patient)
    clinic.mask(root / "d/labels/same.nii.gz")  # one name, another folder
    clinic.film(root / "e/x.dcm", patient)
    clinic.film(root / "e/y.dcm", patient)
    clinic.mask(root / "e/x_seg.nii.gz")
    clinic.mask(root / "e/z_seg.nii.gz")
    (root / "notes.txt").write_text("Anneliese")
    output = run(root, "--dry-run")
    assert "films: 5, 3 with a mask" in output
    assert (
        "masks without a film, or with several candidates: 2" in output
        and "no image (by name and content): 1" in output
    )
    assert not (root / "metadata.csv").exists() and not identifiers_in(output)
    assert film.SOPInstanceUID not in output


def test_one_file_for_each_structure(tmp_path, run):
    root = tmp_path / "knees"
    clinic.film(root / "images/k1.dcm", clinic.PATIENTS[2])
    for name in ("femur", "tibia"):
        clinic.mask(root / f"masks/k1_{name}.nii.gz")
    output = run(root, "--labels", "femur", "tibia")
    assert read(root / "metadata.csv")["mask"].tolist() == ["masks/k1"]
    assert "--config.data.structures=femur,tibia" in output
    run(root, "--labels", "femur", "tibia", "--link-dir", tmp_path / "links")
    names = [path.name.partition("_")[2] for path in sorted((tmp_path / "links/masks").iterdir())]
    assert names == ["femur.nii.gz", "tibia.nii.gz"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0, 255), {"structure 1": 255}),
        ((0, 2), {"structure 2": 2}),
        (range(5), {f"structure {value}": value for value in range(1, 5)}),
        ((0, 1, 255), None),  # which may be void
    ],
)
def test_the_printed_command_states_the_values_of_the_masks(tmp_path, run, values, labels):
    root = tmp_path / "knees"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for name in ("a", "b"):
            picture = np.repeat(np.array([values], np.uint8), 8, axis=0)
            Image.fromarray(np.kron(picture, np.ones((1, 4), np.uint8))).save(root / f"{folder}/{name}.png")
    words = shlex.split(run(root, "--link-dir", tmp_path / "links").rpartition("next:")[2])
    stated = dict(word.removeprefix("--config.data.").split("=", 1) for word in words[4:])
    assert words[:4] == ["kneefair", "check", "--config=folder", "--workdir=runs/check"]
    assert stated.keys() == {"root", "attributes"} | ({"structures"} if labels else set())
    config = config_file.load(config_file.find("folder")).data.to_dict() | stated | {"attributes": ()}
    if labels is None:
        with pytest.raises(InputError, match=r"--config\.data\.ignore_label=255"):
            folder_source.source(config, size=(8, 8), channels=1)
    else:
        source = folder_source.source(config, size=(8, 8), channels=1)
        assert source.structures == tuple(labels) and len(source.cases) == 2
        assert label_map.parse_setting(stated["structures"], -1, "data.").values == labels


@pytest.mark.parametrize(("values", "fewest", "most"), [((1, 255), 1, 16), ((1,), 40, 40), ((255,), 40, 40)])
def test_all_masks_are_read_unless_a_value_may_be_void(monkeypatch, tmp_path, values, fewest, most):
    read_paths = []

    def read_mask(path, names):
        read_paths.append(path)
        return Mask(np.array([[0, *values]], np.uint8))

    monkeypatch.setattr(cases.mask_files, "read", read_mask)
    table = pd.DataFrame({"mask": [f"{number}.png" for number in range(40)]})
    structures = cases.mask_structures(tmp_path, cases.Draft(table, {}, {}, ()))
    assert structures == ({"structure 1": str(values[0])} if len(values) == 1 else {})
    assert fewest <= len(read_paths) <= most


def test_films_without_headers_take_patients_from_their_names(tmp_path, run):
    root = tmp_path / "knees"
    for name in ("P01_L", "P01_R", "P02_L"):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 1).save(root / folder / f"{name}.png")
    output = run(root)
    table = read(root / "metadata.csv")
    assert table["patient_id"].nunique() == 3 and "films without a patient: 3" in output
    assert "spacing_mm: 3 of 3" in output and "sex: 3 of 3" in output
    # The pattern finds IDs, which the paths repeat.
    assert "--link-dir" in run(root, "--patient-pattern", "(P[0-9]+)_", "--overwrite", status=2)
    run(root, "--patient-pattern", "(P[0-9]+)_", "--link-dir", tmp_path / "links")
    assert read(tmp_path / "links/metadata.csv")["patient_id"].nunique() == 2
    (tmp_path / "t.csv").write_text("filename,sex\nP01_L.png,f\nimages/P02_L.png,m\n")
    output = run(root, "--table", tmp_path / "t.csv", "--overwrite")
    assert sorted(read(root / "metadata.csv")["sex"]) == ["", "female", "male"]


def test_folders_without_pairs_are_refused(tmp_path, run):
    assert "no such folder" in run(tmp_path / "missing", status=2)
    (tmp_path / "empty").mkdir()
    assert "no film" in run(tmp_path / "empty", status=2)
    assert "--masks" in run(tmp_path / "empty", "--masks", "m", status=2)
    root = clinic.folder(tmp_path / "knees")
    run(root)
    assert "--overwrite" in run(root, status=2)
    shutil.rmtree(root / "masks")
    output = run(root, "--overwrite")
    assert "there are no masks" in output and set(read(root / "metadata.csv")["mask"]) == {""}


def test_patients_by_identifiers(tmp_path, run):
    root = tmp_path / "knees"
    headers = [
        {"PatientID": "0042"},
        {"PatientID": "42"},  # looks alike
        {"PatientID": "ANONYMOUS", "PatientName": "ANONYMOUS"},
        {"PatientID": "ANONYMOUS", "PatientName": "ANONYMOUS"},  # not known to be the same
        {"PatientID": None, "PatientName": "Meier^Eva"},
        {"PatientID": None, "PatientName": "Meier^Eva"},  # by name and date of birth
        {"PatientID": "55", "IssuerOfPatientID": "A"},
        {"PatientID": "55", "IssuerOfPatientID": "B"},  # another hospital's
        {"PatientID": "66", "IssuerOfPatientID": "A"},
        {"PatientID": "66", "PatientBirthDate": "19550505"},
    ]
    for number, tags in enumerate(headers):
        clinic.film(root / f"images/k{chr(97 + number)}.dcm", clinic.PATIENTS[0], **tags)
        clinic.mask(root / f"masks/k{chr(97 + number)}.nii.gz")
    output = run(root)
    assert read(root / "metadata.csv")["patient_id"].nunique() == 8
    assert (
        "patient IDs that look like another one (by zeros, case or spaces): 2" in output
        and "films without a patient: 2" in output
    )
    assert "patient IDs with several dates of birth: 1" in output
    run(root, "--allow-similar-ids", "--overwrite")
    assert read(root / "metadata.csv")["patient_id"].nunique() == 7


def test_rows_join_by_file_side_and_similar_ids(tmp_path, run):
    root = clinic.folder(tmp_path / "knees")
    lines = [
        "PatientID,side,kl,sex",
        "0007-4411,rechts,3,m",
        "0007-4411,links,1,m",
        "8-5523,,2,m",
        "KH-93012,,2,f",
    ]
    lines += ["KH-93012,,4,f"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    output = run(root, "--table", tmp_path / "t.csv")
    table = read(root / "metadata.csv")
    assert sorted(table["kl"]) == ["", "", "", "", "", "", "1", "3"]
    assert set(table["side"][table["kl"] == "3"]) == {"right"}
    assert "sex: t.csv and the headers disagree (films: 2)" in output
    assert "kl: rows of one patient differ, so it is empty (films: 2)" in output
    assert "only by zeros, case or spaces: 1" in output
    run(root, "--table", tmp_path / "t.csv", "--allow-similar-ids", "--overwrite")
    assert sorted(read(root / "metadata.csv")["kl"]) == ["", "", "", "", "1", "2", "2", "3"]


def test_outputs_and_inputs_are_different_files(root, run, tmp_path):
    table, key = root / "metadata.csv", tmp_path / "key"
    table.write_text("MRN,sex\n")
    key.write_bytes(bytes(range(32)))
    for arguments in (["--table", table], ["--out", key, "--key", key]):
        for flags in ([], ["--overwrite"], ["--dry-run"]):
            output = run(root, *arguments, *flags, status=2)
            assert "--out" in output and arguments[-2] in output and "--overwrite" not in output
    assert table.read_text() == "MRN,sex\n" and key.read_bytes() == bytes(range(32))


def test_a_folder_of_links_around_the_films_is_refused(run, tmp_path):
    for name in ("images/patients-1.dcm", "images/patients-2.dcm"):
        clinic.film(tmp_path / name, clinic.PATIENTS[0])
        clinic.mask(tmp_path / f"{name[:-4]}_mask.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    assert "--link-dir" in run(tmp_path / "images", "--link-dir", tmp_path, "--overwrite", status=2)
    assert sorted(tmp_path.rglob("*")) == before


def test_paths_that_repeat_any_text_of_a_header_are_refused(run, tmp_path):
    private = pydicom.Dataset()
    private.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "HIDDEN4712")
    tags = {"PatientComments": "MRN 5518822", "RequestAttributesSequence": [private]}
    tags |= {"PerformedProcedureStepID": "PPS9988", "PatientID": "0000123456"}
    for name in ("hidden4712", "5518822", "pps9988", "123456"):
        root = tmp_path / f"k{len(name)}"
        clinic.film(root / f"images/{name}.dcm", clinic.PATIENTS[0], **tags)
        clinic.mask(root / f"masks/{name}.nii.gz")
        output = run(root, status=2)
        assert "2 of 2 paths" in output and "--link-dir" in output and name not in output
        assert not (root / "metadata.csv").exists()
        shutil.rmtree(root)


def test_texts_of_single_patients_need_a_confirmation(root, run, tmp_path):
    names = ["Brzezinski", "Kowalczyk", "Podolski", "Quast"]
    lines = [f"{p.patient_id},{name}" for p, name in zip(clinic.PATIENTS, names, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["MRN,Familie", *lines]))
    arguments = ["--table", tmp_path / "t.csv", "--columns", "remarks=Familie"]
    output = run(root, *arguments, status=2)
    assert "--confirm-columns remarks" in output and not identifiers_in(output, names)
    run(root, *arguments, "--confirm-columns", "remarks")
    assert set(read(root / "metadata.csv")["remarks"]) == set(names)
    assert "--table" in run(root, "--confirm-columns", "remarks", "--overwrite", status=2)


WORDS = st.text("ABCDEÉÖabcdeßøñł", min_size=4, max_size=12)
DIGITS = st.text("0123456789", min_size=6, max_size=10).filter(
    lambda text: text.strip("0")
)  # 0000 is a placeholder
DATES = st.dates(min_value=pd.Timestamp("1920-01-01").date(), max_value=pd.Timestamp("1999-12-31").date())


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    family=WORDS, given_name=WORDS, patient_id=st.one_of(DIGITS, WORDS), birth=DATES, where=st.integers(0, 5)
)
def test_no_identifier_of_the_tags_is_in_an_output(
    tmp_path, capsys, family, given_name, patient_id, birth, where
):
    shutil.rmtree(tmp_path, ignore_errors=True)
    root = tmp_path / "k"
    patient = clinic.Patient(patient_id, f"{family}^{given_name}", f"{birth:%Y%m%d}", "ACC1234", "F")
    texts = [family, given_name, patient_id, patient.birth, f"{birth:%d.%m.%Y}"]
    name = texts[where] if where < len(texts) else "film"
    maker = "Carestream" if where else f"Philips {family}"
    tags = {"Manufacturer": maker, "SeriesDescription": f"{family} AP {patient_id}", "view": ""}
    clinic.film(root / f"images/{name}.dcm", patient, **tags)
    clinic.mask(root / f"masks/{name}.nii.gz")
    status = init_folder.main([str(root), "--out", str(tmp_path / "out.csv")])
    assert status == (2 if where < len(texts) else 0)
    init_folder.main([str(root), "--link-dir", str(tmp_path / "links")])
    text = capsys.readouterr().out + capsys.readouterr().err + (tmp_path / "links/metadata.csv").read_text()
    text += "".join(str(path.relative_to(tmp_path)) for path in (tmp_path / "links").rglob("*"))
    if status == 0:
        text += (tmp_path / "out.csv").read_text()
    folded = text.casefold()
    assert not [secret for secret in texts if secret.casefold() in folded]
