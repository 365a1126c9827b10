"""The models to choose from: what each is, whether it fits, and what the page says of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from demo.languages import endonym, number, strings
from demo.offers import Offer, fit, offers
from demo.page.models import changing, choices, offers_list, used
from demo.settings import Model, ModelFile, load_settings
from index_builder.vocabulary import LANGUAGES, MajlisError
from tests.test_render import HOSTILE, OURS, Read

GB = 1e9


class Loaded:
    """As much of a generator as an offer asks for."""

    def __init__(self, name: str, tokens_per_s: float = 0.0):
        self.name, self.tokens_per_s = name, tokens_per_s


def offer(name: str = "nano", **fields) -> Offer:
    usual = {"title": name.title(), "licence": "MIT", "languages": ("bn", "en"), "bytes": 24_000_000, "on_disk": True, "server": "", "fits": "yes",
             "tokens_per_s": 0.0, "in_use": False}  # fmt: skip
    return Offer(name, **(usual | fields))


@pytest.mark.parametrize("size, available, total, fits", [
    (1 * GB, 4 * GB, 8 * GB, "yes"), (3.5 * GB, 4 * GB, 8 * GB, "yes"), (3.7 * GB, 4 * GB, 8 * GB, "tight"), (7.7 * GB, 8 * GB, 8 * GB, "no"),
    (5 * GB, 4 * GB, 5 * GB, "no"),
])  # fmt: skip
def test_a_model_needs_room_beside_its_weights(size, available, total, fits):
    assert fit(size, available, total) == fits


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "here.gguf").write_bytes(b"x" * 5_000)
    models = (
        Model("server", "generator", "A server", "Apache-2.0", ("en",), url="http://gpu.example:8000/v1"),
        Model("large", "generator", "Large", "MIT", ("en",), repo="someone/large", files=(ModelFile("l.gguf", bytes=10**15),)),
        Model("here", "generator", "Here", "CC BY-SA 4.0", ("bn",), folder=str(tmp_path / "here.gguf")),
        Model("folder", "generator", "In a folder", "CC BY-SA 4.0", (), folder=str(tmp_path)),
        Model("other", "encoder", "No generator", "MIT", ()),
    )
    return replace(load_settings(environment={}), models={model.name: model for model in models}, cache=tmp_path / "cache")


def test_every_generator_is_offered_with_its_size_and_whether_it_is_here_and_fits(settings):
    found = {one.name: one for one in offers(settings, None)}
    assert list(found) == ["here", "folder", "large", "server"], "by size, what runs elsewhere last"
    assert (found["here"].bytes, found["here"].on_disk, found["here"].fits) == (5_000, True, "yes")
    assert (found["folder"].bytes, found["folder"].on_disk) == (5_000, True)
    assert (found["large"].bytes, found["large"].on_disk, found["large"].fits) == (10**15, False, "no")
    assert (found["server"].server, found["server"].on_disk, found["server"].fits, found["server"].bytes) == ("gpu.example", True, "", 0)
    assert not any(one.in_use for one in found.values())


def test_the_one_that_is_loaded_is_known_with_its_speed(settings):
    (one,) = (one for one in offers(settings, Loaded("here", 31.6)) if one.in_use)
    assert (one.name, one.tokens_per_s, one.fits) == ("here", 31.6, "yes")


def test_the_models_that_ship_with_the_registry_are_offered():
    assert {"llama-3.2-1b", "llama-3.1-8b"} <= {one.name for one in offers(load_settings(environment={}), None)}


# What the page shows


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_reader_sees_size_licence_languages_fit_and_speed(lang):
    words = strings(lang)["models"]
    read = Read(offers_list([offer(in_use=True, tokens_per_s=42.4), offer("large", bytes=int(4.92 * GB), fits="no", on_disk=False)], lang))
    expected = [
        "Nano", words["size"].format(value=number("0.02", lang)), f"{endonym('bn')}, English", "MIT", words["yes"], words["in_use"],
        words["speed"].format(value=number("42", lang)), "Large", words["size"].format(value=number("4.92", lang)), words["no"], words["fetch"],
        "python -m demo models fetch large",
    ]  # fmt: skip
    assert [part for part in expected if part not in read.text] == []


def test_a_speed_that_nobody_measured_is_said_to_be_so_and_only_of_the_model_in_use():
    unmeasured = strings("en")["models"]["unmeasured"]
    assert unmeasured in offers_list([offer(in_use=True)], "en") and unmeasured not in offers_list([offer()], "en")


def test_a_server_shows_its_host_and_no_size():
    text = Read(offers_list([offer(server="gpu.example", bytes=0, fits="", in_use=True)], "en")).text
    assert "runs on gpu.example" in text and "GB" not in text and "memory" not in text and "tokens/s" not in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_a_registry_says_is_text(lang):
    read = Read(offers_list([offer(HOSTILE, title=HOSTILE, licence=HOSTILE, languages=(HOSTILE,), server=HOSTILE, on_disk=False)], lang))
    assert {tag for tag, _ in read.tags} <= OURS | {"ul"} and read.text.count(HOSTILE) == 5


def test_quotes_and_what_is_here_can_be_chosen_at_once():
    found = [offer("a"), offer("b", on_disk=False), offer("c", in_use=True)]
    assert choices(found, "en") == [(strings("en")["models"]["none"], "none"), ("A", "a"), ("C", "c")]
    assert used(found) == "c" and used(found[:2]) == "none"


class Picks:
    def __init__(self, problem: str = ""):
        self.problem, self.changed = problem, []

    def offers(self) -> list[Offer]:
        return [offer("nano")]

    def change(self, name: str) -> None:
        if self.problem:
            raise MajlisError(self.problem)
        self.changed.append(name)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_while_the_model_is_changed_the_reader_is_told_what_happens(lang):
    words, picks = strings(lang)["models"], Picks()
    said = [Read(html).text for html in changing(picks, "nano", lang)]
    assert said == [words["changing"].format(model="Nano"), words["changed"].format(model="Nano")] and picks.changed == ["nano"]
    assert [Read(html).text for html in changing(picks, "none", lang)] == [words["changed_none"]] and picks.changed == ["nano", "none"]


def test_a_change_that_fails_says_why_as_text():
    *_, html = changing(Picks(HOSTILE), "nano", "en")
    read = Read(html)
    assert HOSTILE in read.text and read.having(role="alert") and {tag for tag, _ in read.tags} <= OURS


def test_a_file_on_the_command_line_is_offered_too(tmp_path):
    (tmp_path / "mine.gguf").write_bytes(b"x" * 7)
    found = offers(load_settings(model=str(Path(tmp_path / "mine.gguf")), environment={}), None)
    assert [(one.bytes, one.on_disk) for one in found if one.name == "mine"] == [(7, True)]
