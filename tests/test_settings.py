"""models.toml as it ships is read whole; as it should not be, it is refused with the line or the name that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.settings import ROLES, ROOT, SettingsError, load_settings
from index_builder.vocabulary import LANGUAGES

SMALL = """\
schema = 1

[defaults]
encoder = "e"
generator = "none"
language = "l"

[[model]]
name = "e"
role = "encoder"
title = "An encoder"
licence = "MIT"
languages = ["bn", "en"]
repo = "someone/encoder"
files = [{ path = "model.bin", sha256 = "%s", bytes = 3 }]

[[model]]
name = "l"
role = "language"
title = "A detector"
licence = "MIT"
""" % ("0" * 64)


@pytest.fixture
def read(tmp_path):
    """Settings of a models.toml with this text."""

    def read_text(text: str, **options):
        path = tmp_path / "models.toml"
        path.write_text(text, encoding="utf-8")
        return load_settings(path, **({"environment": {}} | options))

    return read_text


def test_the_registry_that_ships_loads_and_its_defaults_are_in_it():
    found = load_settings(environment={})
    assert found.model(found.encoder, "encoder").folder == "assets/models/encoder"
    assert found.generator == "none" or found.model(found.generator, "generator")
    assert found.model(found.language, "language")
    assert {"multilingual-e5-small", "bge-m3", "labse", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"} <= found.models.keys()
    assert all(model.role in ROLES and model.licence and set(model.languages) <= set(LANGUAGES) for model in found.models.values())
    assert all(file.sha256 for model in found.models.values() if model.role == "generator" for file in model.files)


def test_every_bundled_model_that_ships_is_a_folder_inside_the_repository():
    for model in load_settings(environment={}).models.values():
        assert not Path(model.folder).is_absolute() and ".." not in Path(model.folder).parts


def test_a_small_registry_reads_as_written(read):
    found = read(SMALL)
    encoder = found.model("e")
    assert (encoder.role, encoder.languages, encoder.repo, encoder.revision, encoder.bytes) == (
        "encoder",
        ("bn", "en"),
        "someone/encoder",
        "main",
        3,
    )
    assert (found.encoder, found.generator, found.language, found.offline) == ("e", "none", "l", False)
    assert found.index == ROOT / "assets" / "index"


@pytest.mark.parametrize("before, added, key", [
    ("[defaults]", "spelling = 1", "spelling"),
    ('encoder = "e"', 'encodr = "e"', "encodr"),
    ('role = "encoder"', 'rolle = "encoder"', "rolle"),
    ('role = "language"', 'rolle = "language"', "rolle"),
    ('title = "A detector"', '"licens" = "MIT"', "licens"),
    ("files = [", 'filez = ["repo"]', "filez"),
])  # fmt: skip
def test_an_unknown_key_is_refused_with_its_line(read, tmp_path, before, added, key):
    lines = SMALL.split("\n")
    place = next(i for i, line in enumerate(lines) if line.startswith(before))
    lines.insert(place, added)
    with pytest.raises(SettingsError) as refused:
        read("\n".join(lines))
    assert f"models.toml:{place + 1}: unknown key '{key}'" in str(refused.value)


def test_an_unknown_key_inside_a_file_is_refused_with_its_line(read):
    text = SMALL.replace("bytes = 3", "byte = 3")
    line = next(i for i, row in enumerate(text.split("\n"), 1) if "byte = 3" in row)
    with pytest.raises(SettingsError, match=f"models.toml:{line}: unknown key 'byte' in a file of model 'e'"):
        read(text)


def test_the_line_is_that_of_the_wrong_model_even_when_headers_carry_comments(read):
    text = SMALL.replace('[[model]]\nname = "l"', '[[ model ]]  # who speaks?\nname = "l"').replace('role = "language"', 'role = "oracle"')
    line = next(i for i, row in enumerate(text.split("\n"), 1) if "oracle" in row)
    with pytest.raises(SettingsError, match=f"models.toml:{line}: role is 'oracle', expected one of encoder, generator, language"):
        read(text)


@pytest.mark.parametrize("old, new, said", [
    ('languages = ["bn", "en"]', 'languages = ["bn", "xx"]', "models.toml:13: language 'xx' is not known; known are ar, as, bn"),
    ("0" * 64, "0" * 63, "file 'model.bin': sha256 must be 64 hexadecimal digits"),
    ("0" * 64, "A" * 64, "sha256 must be 64 hexadecimal digits"),
    ('name = "l"', 'name = "e"', "two models are called 'e'"),
    ('files = [{ path = "model.bin"', 'files = [{ path = "../model.bin"', "without a usable path"),
    ('files = [{ path = "model.bin"', 'files = [{ path = "/etc/passwd"', "without a usable path"),
    ('files = [{ path = "model.bin",', "files = [{", "without a usable path"),
    (f'files = [{{ path = "model.bin", sha256 = "{"0" * 64}", bytes = 3 }}]', "", "model 'e' has a repo but no files to fetch"),
    ('licence = "MIT"\nlanguages', "languages", "model 'e' needs licence"),
    ('title = "A detector"', 'title = ""', "model 'l' needs title"),
    ("schema = 1", "schema = 2", "schema is 2, this version reads 1"),
    ("schema = 1", "", "schema is None"),
    ('encoder = "e"', 'encoder = "f"', "No encoder called 'f' in models.toml; it has e"),
    ('encoder = "e"', 'encoder = "l"', "No encoder called 'l'"),
    ('language = "l"', "", "No language called ''"),
    ('generator = "none"', 'generator = "some"', "No generator called 'some' in models.toml; it has none"),
    ("schema = 1", "schema = ", "is not valid TOML"),
    ('languages = ["bn", "en"]', 'languages = "bn"', "languages in model 'e' is 'bn', expected a list"),
    ('licence = "MIT"\nlanguages', 'context = "big"\nlicence = "MIT"\nlanguages', "context in model 'e' is 'big', expected a whole number"),
    ("bytes = 3", 'bytes = "3"', "bytes in a file of model 'e' is '3', expected a whole number"),
    (f'"{"0" * 64}"', "0", "sha256 in a file of model 'e' is 0, expected a text"),
    ("files = [{", 'files = ["x", {', "a file is written"),
    ('encoder = "e"', "encoder = 3", "encoder in [defaults] is 3, expected a text"),
    ('[defaults]\nencoder = "e"\ngenerator = "none"\nlanguage = "l"', "defaults = 3", "expected one [defaults] table"),
])  # fmt: skip
def test_a_wrong_registry_says_what_is_wrong(read, old, new, said):
    assert old in SMALL
    with pytest.raises(SettingsError) as refused:
        read(SMALL.replace(old, new, 1) if old != 'name = "l"' else SMALL.replace(old, new))
    assert said in str(refused.value)


def test_one_model_written_as_a_plain_table_is_refused(read):
    with pytest.raises(SettingsError, match=r"one \[\[model\]\] table for each model"):
        read(SMALL[: SMALL.index("[[model]]")] + '[model]\nname = "e"\n')


def test_a_missing_registry_says_so(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read .* Restore it from the repository"):
        load_settings(tmp_path / "none.toml", environment={})


def test_a_registry_that_is_not_utf8_says_so(tmp_path):
    path = tmp_path / "models.toml"
    path.write_bytes(b"schema = 1 # \xff\n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings(path, environment={})


@given(st.text(max_size=40))
def test_any_text_in_a_registry_gives_settings_or_a_clear_refusal(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"{SMALL}{text}", encoding="utf-8", newline="")
    try:
        assert load_settings(path, environment={}).encoder == "e"
    except SettingsError as error:
        assert str(path) in str(error)


def test_a_gguf_path_becomes_the_generator(read, tmp_path):
    gguf = tmp_path / "Tiny.Q4.gguf"
    gguf.write_bytes(b"GGUF")
    found = read(SMALL, model=str(gguf))
    assert found.model(found.generator, "generator").folder == str(gguf)


def test_the_path_of_a_missing_gguf_says_what_model_takes(read, tmp_path):
    with pytest.raises(
        SettingsError, match=r"missing\.gguf is not there\. --model takes the path of a \.gguf file, a name from models\.toml, or none"
    ):
        read(SMALL, model=str(tmp_path / "missing.gguf"))


def test_model_none_wins_over_the_default(read):
    assert read(SMALL.replace('generator = "none"', 'generator = "some"'), model="none").generator == "none"


@pytest.mark.parametrize("value, offline", [("", False), ("0", False), ("1", True), ("yes", True)])
def test_the_environment_can_say_offline(read, value, offline):
    assert read(SMALL, environment={"MAJLIS_OFFLINE": value}).offline is offline


def test_the_environment_can_place_index_and_models(read, tmp_path):
    found = read(SMALL, environment={"MAJLIS_INDEX": str(tmp_path / "i"), "MAJLIS_MODELS": str(tmp_path / "m")})
    assert (found.index, found.cache) == (tmp_path / "i", tmp_path / "m")
