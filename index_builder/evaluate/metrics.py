"""Rankings -> figures of one query, as small pure functions. Means over queries are at the end.

Qrels are {passage id: grade}, relevant from grade 1; a ranking is a list of ids, best first. A test holds them equal to ir_measures.
"""

import math
from collections.abc import Callable, Mapping, Sequence

Qrels = Mapping[str, Mapping[str, int]]  # query id -> passage id -> grade
Scores = Mapping[str, Mapping[str, float]]  # query id -> passage id -> score, higher is better
Metric = Callable[[Mapping[str, int], Sequence[str]], float]


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Ids, best first; equal scores by id, descending, as trec_eval breaks ties."""
    return sorted(scores, key=lambda passage_id: (scores[passage_id], passage_id), reverse=True)


def relevant_ranks(grades: Mapping[str, int], ranked: Sequence[str]) -> list[int]:
    """Ranks, from 1, of what is relevant."""
    return [rank for rank, passage_id in enumerate(ranked, 1) if grades.get(passage_id, 0) >= 1]


def relevant_count(grades: Mapping[str, int]) -> int:
    return sum(grade >= 1 for grade in grades.values())


def success_at(k: int) -> Metric:
    """1 when anything relevant is among the first k, else 0. Many QA papers call this recall@k."""
    return lambda grades, ranked: float(bool(relevant_ranks(grades, ranked[:k])))


def recall_at(k: int) -> Metric:
    """Share of what is relevant among the first k; 0 for a query without anything relevant. trec_eval's recall.k."""

    def recall(grades: Mapping[str, int], ranked: Sequence[str]) -> float:
        total = relevant_count(grades)
        return len(relevant_ranks(grades, ranked[:k])) / total if total else 0.0

    return recall


def reciprocal_rank(grades: Mapping[str, int], ranked: Sequence[str]) -> float:
    """1 / rank of the first that is relevant, 0 when none was found. Its mean is MRR; cut the ranking for MRR@k."""
    return next((1 / rank for rank in relevant_ranks(grades, ranked)), 0.0)


def average_precision(grades: Mapping[str, int], ranked: Sequence[str]) -> float:
    """Mean of the precision at each relevant rank; what was not found counts as 0. Its mean is mAP (trec_eval's map)."""
    total = relevant_count(grades)
    return sum(found / rank for found, rank in enumerate(relevant_ranks(grades, ranked), 1)) / total if total else 0.0


def ndcg_at(k: int) -> Metric:
    """nDCG@k with the grade itself as gain and log2(rank + 1) as discount (trec_eval's ndcg_cut; Järvelin and Kekäläinen 2002)."""

    def dcg(gains: Sequence[int]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))

    def ndcg(grades: Mapping[str, int], ranked: Sequence[str]) -> float:
        best = dcg(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k])
        return dcg([max(0, grades.get(passage_id, 0)) for passage_id in ranked[:k]]) / best if best else 0.0

    return ndcg


def token_budget_hit(answers: Sequence[str], contexts: Sequence[Sequence[str]], budget: int) -> bool | None:
    """R@Kt of XOR-Retrieve (METHODS section 7): whether an answer is a raw, case-sensitive substring of the first `budget` tokens.

    answers   gold strings; "yes" and "no" are left out, and None is returned when nothing remains (the question is not counted)
    contexts  the tokens of each passage text, best first; they are joined by spaces, so "Paris, France" never equals "Paris , France"
    """
    strings = [answer for answer in answers if answer not in ("yes", "no")]
    if not strings:
        return None
    return any(answer in " ".join(first_tokens(contexts, budget)) for answer in strings)


def first_tokens(contexts: Sequence[Sequence[str]], budget: int) -> list[str]:
    tokens: list[str] = []
    for context in contexts:
        tokens += context
        if len(tokens) >= budget:
            break
    return tokens[:budget]


def same_language_bias(question_lang: str, found_langs: Sequence[str], pool: Mapping[str, int]) -> float | None:
    """How much more of what was found is in the question's language than a search blind to languages would find, in [-1, 1].

    `pool` counts what can be found, by language. None when nothing was found or nothing is in that language. 0 is no bias.
    """
    total = sum(pool.values())
    if not found_langs or not pool.get(question_lang):
        return None
    return sum(lang == question_lang for lang in found_langs) / len(found_langs) - pool[question_lang] / total


def mean_over(metric: Metric, qrels: Qrels, run: Scores) -> float:
    """Mean over every judged query; a query that the run lacks counts as 0 and stays in the mean."""
    values = [metric(grades, ranking(run.get(query_id, {}))) for query_id, grades in qrels.items()]
    return sum(values) / len(values) if values else 0.0
