"""What the tests share: the bundled encoder, a small corpus in seven languages, and an index of it."""

from pathlib import Path

import numpy as np
import pytest

from index_builder.augment import Augmentation
from index_builder.encode import StaticEncoder, open_encoder
from index_builder.search import Index
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import Entry, GeneratedQuery

ROOT = Path(__file__).resolve().parent.parent


def small_corpus() -> list[Entry]:
    """One QA pair in each of the seven languages and two English passages, one with a generated query."""
    qa = [
        ("ar-QA", "food_drinks", "ماذا يُقدَّم مع القهوة العربية؟", "يُقدَّم التمر مع القهوة العربية، وتُصبّ القهوة باليد اليسرى."),
        ("as-IN", "events", "ভোগালী বিহু কেতিয়া পালন কৰা হয়?", "ভোগালী বিহু মাঘ মাহৰ আৰম্ভণিতে পালন কৰা হয়। ইয়াক মাঘ বিহু বুলিও কয়।"),
        ("bn-BD", "events", "পহেলা বৈশাখে মানুষ কী খায়?", "পহেলা বৈশাখে অনেকে পান্তা ভাত আর ইলিশ মাছ খান।"),
        (
            "en-QA",
            "cloth",
            "What do men in Qatar wear on the head?",
            "Men in Qatar wear a ghutra, a folded cloth held by a black cord called the agal.",
        ),
        ("hi-IN", "weather", "लू से बचने के लिए क्या पीते हैं?", "लू से बचने के लिए लोग आम पन्ना और छाछ पीते हैं।"),
        ("ne-NP", "food_drinks", "गुन्द्रुक केबाट बनाइन्छ?", "गुन्द्रुक रायो र मुलाको पात कुहाएर सुकाई बनाइन्छ।"),
        ("tr-TR", "food_drinks", "Aşure ne zaman pişirilir?", "Aşure muharrem ayında pişirilir ve komşulara dağıtılır."),
    ]
    entries = [
        Entry(f"{locale}.{topic}.01", "qa", locale[:2], answer, question=question, locale=locale, topic=topic, source="written for Majlis")
        for locale, topic, question, answer in qa
    ]
    queries = (GeneratedQuery("bn", "সুন্দরবনে কোন বাঘ থাকে?", 0.9, "hand"),)
    mangrove = "The Sundarbans is a mangrove forest shared by Bangladesh and India. The Bengal tiger lives there and swims between the islands. Honey gatherers enter in spring."
    metro = "The metro in Doha has three lines. Trains run without drivers. Stations are named after districts of the city."
    entries.append(
        Entry("bangladesh.animal.en", "passage", "en", mangrove, title="The Sundarbans", locale="en-BD", topic="animal", queries=queries)
    )
    entries.append(Entry("gulf.travel.en", "passage", "en", metro, title="The Doha Metro", locale="en-QA", topic="travel"))
    return entries


@pytest.fixture(scope="session")
def encoder() -> StaticEncoder:
    """The encoder that ships."""
    found = open_encoder(ROOT / "assets/models/encoder", "majlis-static")
    assert isinstance(found, StaticEncoder)
    return found


@pytest.fixture(scope="session")
def index(encoder, tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("small") / "index"
    settings = BuildSettings(augment=Augmentation("max"))
    build_index(small_corpus(), encoder, folder, settings, say=lambda _: None)
    return Index(folder, encoder)


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k rows of `vectors` (n, d) most similar to `query` (d,), best first, ties by row: what a graph search is held against."""
    similarity = vectors @ query
    best = np.argsort(-similarity, kind="stable")[:k]
    return [(int(row), float(similarity[row])) for row in best]
