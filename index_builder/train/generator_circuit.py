"""The first weights of the nano Llama: not random, but a circuit that already compares, points and copies; training starts from there.

Copying and pointing are phase changes: from random weights they appear after thousands of steps, more than two cores do in an hour.
Written by hand they are there at step 0. The circuit follows induction heads (Olsson et al. 2022, "In-context learning and induction
heads") and late interaction (Khattab and Zaharia 2020, ColBERT), and only uses what a Llama has: RoPE attention and a residual stream.

The stream is cut into named parts (`Layout`). The token embedding fills `meaning` (the matcher's vector of the piece, so that words of
seven languages are comparable), `identity` (a random unit vector, which the tied output layer reads), some flags, and `filler`, which makes
every token equally long: a Llama divides by that length, and equal matches must score alike.
    layer 0   four heads look back 1 to 4 tokens: every token knows which tokens stand before it
    layer 1   and the next three; which piece of evidence a token belongs to (the digit before the nearest "]"), and whether it is still in its
              head, the question or title before the text; whose turn it is, and whether evidence has begun
    layer 2   each word of the repeated question spreads its votes over the tokens of the evidence that mean the same; where a text begins
    layer 3   the answer collects the votes, and counts its citations; how early in its piece a token stands, and whether in the first sentence
    layer 4   pointing at the text of the chosen piece; copying the token that stands behind the same seven tokens, or " ["
              where a sentence ends there; the number of its source; after a first citation the next sentence, after a second the end
A word or a name occurs in several places, the question of a pair most of all, so a few tokens before are not enough to copy by. Hence never
the head of a piece, rather an early sentence than a later one, and after a citation not the first sentence again: with this, what stays
ambiguous is a run of seven tokens that occurs twice within one sentence.
What the words mean, which dimensions the votes compare and what a vote counts was learned before (generator_match). Feed-forward layers
and spare heads start with no effect.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from transformers import LlamaConfig, LlamaForCausalLM

from index_builder.train.generator_match import MEANING, REST, VOTERS, Matching

ROPE_THETA = 1e16  # so that most of a head's dimensions hardly turn within the context: they compare contents, the others distances
IDENTITY, DIGITS = 96, 9
FINE, COARSE = 16, 7  # dimensions of the two traces that a token leaves in those after it
_FINELY, TRACES = 3, 7  # so many tokens before are remembered by both traces, so many by the coarse one
_LENGTH = 16.0  # squared, of every token vector
_WEIGHT = 8.0  # flags stay small
_CHOICE = 0.2  # likewise: the votes collected grow to about 10
_FLAGS = ("constant", "bos", "newline", "close", "assistant", "user", "system", "end", "asked", "colon", "open", "opens", "aside", "aside_end", "quiet", "weight",
          "before_newline", "before_end", "before_asked", "before_colon", "before_system", "before_open",
          "before_close", "before_aside_end",
          "answering", "seen", "asking", "head", "after_head", "early", "first", "uncited")  # fmt: skip
WIDTH, HEADS, HEAD = 416, 4, 128
LAYERS = 5
_DECIDED = 3.0  # how much sharper the pointing is than the votes: one piece is meant, not a mixture
_SAME = (20.0, 14.0, 10.0, 6.0, 4.0, 3.0, 3.0)  # what it counts that a token, the one before it … is the same
_BLOCK = 32  # numbers that are rounded to 8 bits together: what must be exact does not share a block with what is large


@dataclass(frozen=True, slots=True)
class Special:
    """Token ids that the circuit knows by name, and per token what its flags are."""

    bos: int
    newline: int
    user: int
    assistant: int
    system: int
    end_of_turn: int
    open: int  # "▁["
    bracket: int  # "["
    close: tuple[int, ...]  # pieces that are "]"
    digits: tuple[int, ...]  # "1" to "9"
    sentence_end: tuple[int, ...]  # pieces that end a sentence
    asked: tuple[int, ...]  # pieces that end a question
    colon: tuple[int, ...]  # pieces that end a title or a label
    opens: tuple[int, ...]  # pieces that may begin a sentence, after one that ends one
    aside: tuple[int, ...]  # pieces that begin with "("
    aside_end: tuple[int, ...]  # pieces that end in ")"

    @property
    def edges(self) -> list[int]:
        """What may stand before the first token of a sentence, or of an answer."""
        return [*self.sentence_end, *self.asked, *self.colon, self.assistant, *self.close, self.system]


class Layout:
    """Where in the residual stream each part lies."""

    meaning = np.arange(MEANING)
    filler = np.arange(MEANING, 4 * _BLOCK)
    identity = 4 * _BLOCK + np.arange(IDENTITY)
    fine = 7 * _BLOCK + np.arange(_FINELY * FINE).reshape(_FINELY, FINE)  # identity of the token 1, 2 … before, compressed
    coarse = 7 * _BLOCK + _FINELY * FINE + np.arange(TRACES * COARSE).reshape(TRACES, COARSE)
    edges = 7 * _BLOCK + _FINELY * FINE + TRACES * COARSE + np.arange(_FINELY)  # whether the token 1, 2 … before is an edge
    # where a quiet token left no traces, as long as they would be: a distance is only told right between tokens of equal length
    hush = 7 * _BLOCK + _FINELY * (FINE + 1) + TRACES * COARSE + np.arange(HEADS)
    source = 11 * _BLOCK + np.arange(DIGITS)  # one-hot: the piece of evidence that a token belongs to
    vote = 11 * _BLOCK + DIGITS + np.arange(DIGITS)  # of a word of the question
    choice = 11 * _BLOCK + 2 * DIGITS + np.arange(DIGITS)  # the votes collected
    flag = {name: 12 * _BLOCK + place for place, name in enumerate(_FLAGS)}


def nano_config(vocabulary: int, special: Special, context: int = 2048) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=WIDTH // 4, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, head_dim=HEAD, max_position_embeddings=context, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=special.bos, eos_token_id=special.end_of_turn, pad_token_id=0,
    )  # fmt: skip


def embeddings(matching: Matching, special: Special, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vocabulary, WIDTH) token embeddings, and the (FINE, IDENTITY) and (COARSE, IDENTITY) projections by which a token remembers those before it."""
    random = np.random.default_rng(seed)
    vocabulary = len(matching.meaning)
    both, _ = np.linalg.qr(random.normal(size=(IDENTITY, FINE + COARSE)))
    fine, coarse = both[:, :FINE], both[:, FINE:]
    identity = random.normal(size=(vocabulary, IDENTITY))
    rest = _unit(identity - identity @ both @ both.T)
    finely, coarsely = _unit(identity @ fine), _unit(identity @ coarse)
    finely[list(special.digits)] = np.eye(FINE)[:DIGITS]  # at right angles: a piece of evidence is told by the trace of its digit
    # every identity leaves traces of the same length, but for what stands between sentences: there it only matters that something does
    shares = np.sqrt(np.array([FINE, COARSE, IDENTITY - FINE - COARSE]) / IDENTITY)
    identity = shares[0] * finely @ fine.T + shares[1] * coarsely @ coarse.T + shares[2] * rest
    quiet = [special.newline, special.bos, special.end_of_turn, special.open]
    identity[quiet + special.edges] = rest[quiet + special.edges]
    # what is written where a sentence ends, or its opposite elsewhere, must say nothing of any other token
    mark = rest[special.open].copy()
    identity -= np.outer(identity @ mark, mark)
    identity[special.open] = mark
    for token in special.close[1:]:
        identity[token] = 0.9 * identity[special.close[0]] + 0.43 * identity[token]
    # a mark is the same in the text and at the beginning of a line
    identity[special.bracket] = 0.9 * identity[special.open] + 0.43 * identity[special.bracket]
    # where the copied text ends its line, the answer ends: a copied end of line is rather this
    identity[special.end_of_turn] = 1.15 * identity[special.newline] + 0.6 * identity[special.end_of_turn]

    table = np.zeros((vocabulary, WIDTH))
    # as the matcher divides it, since the stream itself will not: see `filler`
    table[:, Layout.meaning] = matching.meaning * np.sqrt((1 + REST) / ((matching.meaning**2).sum(1, keepdims=True) + REST))
    table[:, Layout.identity] = identity
    marks = [special.bos, special.newline, *special.close]  # the matcher never saw them
    table[np.ix_(marks, Layout.meaning)] = 0
    flag = Layout.flag
    table[:, flag["constant"]] = 1
    table[:, flag["weight"]] = matching.weight / _WEIGHT
    table[marks, flag["weight"]] = -0.5
    for name, tokens in (
        ("bos", [special.bos]), ("newline", [special.newline]), ("system", [special.system]), ("user", [special.user]),
        ("assistant", [special.assistant]), ("open", [special.open]), ("asked", special.asked), ("colon", special.colon), ("opens", special.opens),
        ("close", special.close), ("end", special.sentence_end), ("aside", special.aside), ("aside_end", special.aside_end),
        ("quiet", quiet),
    ):  # fmt: skip
        table[list(tokens), flag[name]] = 1
    length = np.full((vocabulary, 1), _LENGTH)
    # Nothing stands before it, and it has no source. The others gain as much by these in the second layer.
    length[special.bos] += TRACES - HEADS + 1
    missing = length - (table**2).sum(1, keepdims=True)
    table[:, Layout.filler] = np.sqrt(np.maximum(missing, 0) / len(Layout.filler))
    return table.astype(np.float32), (fine.T / shares[0]).astype(np.float32), (coarse.T / shares[1]).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_FREQUENCY = ROPE_THETA ** -(np.arange(HEAD // 2) / (HEAD // 2))
_STILL = [i for i in range(HEAD // 2) if _FREQUENCY[i] < 3e-4]  # turn by less than half a radian in 1,600 tokens
_CONTENT = np.array(_STILL + [i + HEAD // 2 for i in _STILL])
_TURNING = [i for i in range(HEAD // 2) if i not in _STILL]
_NEVER = 3_000.0  # more than a score falls with the distance within _REACH
_RECENCY, _REACH = 1_700.0, 400  # the sum of the amplitudes by which a score falls with distance: 1 or more a token, so far back


class _Head:
    """One attention head under construction: rows of its query, key, value and columns of its output, in units of the stream itself."""

    def __init__(self) -> None:
        self.query, self.key, self.value = (np.zeros((HEAD, WIDTH)) for _ in range(3))
        self.output = np.zeros((WIDTH, HEAD))
        self._next_content, self._next_value = 0, 0

    def compare(self, query: np.ndarray, key: np.ndarray, strength: float) -> "_Head":
        """Adds strength * <query x, key y> to the score. query, key: (n, WIDTH)."""
        rows = _CONTENT[self._next_content : self._next_content + len(query)]
        assert len(rows) == len(query), "a head has no more dimensions that stand still"
        self._next_content += len(query)
        self.query[rows], self.key[rows] = query * strength, key  # keys stay small: llama.cpp keeps them in half precision
        return self

    def near(self, amplitudes: np.ndarray, distance: int = 0) -> "_Head":
        """Adds sum_i amplitudes[i] (cos(frequency_i (d - distance)) - 1) to the score, d tokens back. At `distance` it is 0."""
        for i, amplitude in zip(_TURNING, amplitudes, strict=False):
            turn = _FREQUENCY[i] * distance
            self.query[i] += amplitude * np.cos(turn) * _constant()
            self.query[i + HEAD // 2] -= amplitude * np.sin(turn) * _constant()
            self.key[i] += _constant()
        return self.compare(_constant()[None], -_constant()[None], float(np.sum(amplitudes)))

    def carry(self, value: np.ndarray, to: np.ndarray) -> "_Head":
        """Writes value x of the token looked at to the places `to`. value: (len(to), WIDTH); or `to` a (WIDTH, n) matrix."""
        rows = np.arange(self._next_value, self._next_value + len(value))
        self._next_value += len(value)
        self.value[rows] = value
        if to.ndim == 1:
            self.output[to, rows] = 1
        else:
            self.output[:, rows] = to
        return self


def _constant() -> np.ndarray:
    return _flag("constant")


def _flag(name: str, times: float = 1.0) -> np.ndarray:
    row = np.zeros(WIDTH)
    row[Layout.flag[name]] = times
    return row


def _rows(places: np.ndarray) -> np.ndarray:
    return np.eye(WIDTH)[places]


def _any_source() -> np.ndarray:
    """1 for a token of the evidence, 0 elsewhere."""
    return _rows(Layout.source).sum(0)


def build_model(config: LlamaConfig, matching: Matching, special: Special, sample: list[list[int]], seed: int = 0) -> LlamaForCausalLM:
    """The model with the circuit in it. `sample`: a few tokenised prompts, by which the scale of each layer's input is measured."""
    table, *projections = embeddings(matching, special, seed)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(table))
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
        fine, coarse = (projection @ _rows(Layout.identity) for projection in projections)
        for index, heads in enumerate(_circuit(matching, fine, coarse, table, special)):
            scale = _scale_at(model, index, sample)
            _write(model.model.layers[index].self_attn, heads, scale)
            if index == 1:
                _make_whole(model, sample)
        scale = _scale_at(model, LAYERS, sample)
        gains = torch.zeros(WIDTH)
        gains[Layout.identity] = 4.0 / scale
        model.model.norm.weight.copy_(gains)
    return model


def _scale_at(model: LlamaForCausalLM, layer: int, sample: list[list[int]]) -> float:
    """Mean of 1 / root mean square of what enters `layer`."""
    with torch.no_grad():
        seen = []
        for row in sample:
            hook = (model.model.layers[layer] if layer < LAYERS else model.model.norm).register_forward_pre_hook(
                lambda _, inputs: seen.append(inputs[0])
            )
            model.model(input_ids=torch.tensor([row]))
            hook.remove()
        return float(torch.cat([hidden.reshape(-1, WIDTH).pow(2).mean(1).rsqrt() for hidden in seen]).mean())


def _make_whole(model: LlamaForCausalLM, sample: list[list[int]]) -> None:
    """Scales what layer 1 writes as the source, so that it is 1 for a token of the evidence: whole layers above count on it."""
    seen = []
    hook = model.model.layers[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][..., Layout.source]))
    for row in sample:
        model.model(input_ids=torch.tensor([row]))
    hook.remove()
    highest = torch.cat([source.reshape(-1, DIGITS).max(1).values for source in seen])
    model.model.layers[1].self_attn.o_proj.weight[Layout.source] /= highest[highest > 0.5].mean()


def _write(attention, heads: list[_Head], scale: float) -> None:
    for number, head in enumerate(heads):
        rows = slice(number * HEAD, (number + 1) * HEAD)
        # scores are divided by the root of HEAD, and both sides come multiplied by `scale`
        factor = HEAD**0.25 / scale
        spare = torch.randn(3, HEAD, WIDTH) * 0.02
        for part, matrix, times, noise in (
            (attention.q_proj, head.query, factor, spare[0]),
            (attention.k_proj, head.key, factor, spare[1]),
            (attention.v_proj, head.value, 1 / scale, spare[2]),
        ):
            empty = torch.from_numpy((matrix == 0).all(1))  # rows that the circuit leaves free start small and random
            weight = torch.from_numpy(matrix * times).float()
            if part is not attention.v_proj and not empty.all():
                empty[:] = False  # a head with a task starts with nothing beside it
            part.weight[rows] = torch.where(empty[:, None], noise, weight)
        attention.o_proj.weight[:, rows] = torch.from_numpy(head.output).float()


def _circuit(matching: Matching, own: np.ndarray, own_coarse: np.ndarray, table: np.ndarray, special: Special) -> list[list[_Head]]:
    # traces of this token, and of those before it
    fine = [own, *(_rows(places) for places in Layout.fine)]
    coarse = [own_coarse, *(_rows(places) for places in Layout.coarse)]
    flag = _flag
    edges = [sum(map(flag, ("end", "asked", "colon", "assistant", "close", "system"))), *_rows(Layout.edges)]
    # what a head writes when it rests on the beginning of the text must be nothing
    identity = _rows(Layout.identity) - np.outer(table[special.bos, Layout.identity], flag("bos"))
    recency = _recency()
    ask, one = _constant()[None], _constant()
    bos, sourced = flag("bos"), _any_source()
    source, prior = _rows(Layout.source), _padded(matching.prior) @ _rows(Layout.source)

    def place(*names: str) -> np.ndarray:
        return np.array([Layout.flag[name] for name in names])

    to_number = np.zeros((WIDTH, DIGITS))
    to_number[Layout.identity] = table[list(special.digits)][:, Layout.identity].T

    def writes(token: int) -> np.ndarray:
        """The column that makes `token` the next one."""
        column = np.zeros((WIDTH, 1))
        column[Layout.identity, 0] = table[token, Layout.identity]
        return column

    layer0 = []
    for distance in range(1, HEADS + 1):
        head = _Head().near(np.full(8, 16.0), distance).carry(own_coarse, Layout.coarse[distance - 1])
        hush = flag("quiet") + edges[0]
        if distance <= _FINELY:
            head.carry(own, Layout.fine[distance - 1]).carry(edges[0][None], Layout.edges[distance - 1 : distance])
            hush = np.sqrt(2) * flag("quiet") + edges[0]  # two traces less, or one and an edge instead
        head.carry(hush[None], Layout.hush[distance - 1 : distance])
        if distance == 1:
            told = ("newline", "end", "asked", "colon", "system", "open", "close", "aside_end")
            head.carry(np.stack([flag(name) for name in told]), place(*(f"before_{name}" for name in told)))
        layer0.append(head)

    # identity of a digit (its trace) -> one-hot; the traces of digits are at right angles
    to_digit = np.zeros((DIGITS, WIDTH))
    digit_traces = table[list(special.digits)][:, Layout.identity] @ own[:, Layout.identity].T
    to_digit[:, Layout.fine[0]] = digit_traces / (digit_traces**2).sum(1, keepdims=True)
    # The others are pushed down, and not these up: between a short and a long token only the distance decides. One end of line is no mark,
    # since it keeps a trace of whatever stands before it; an empty line is one, but of it and a "]" soon after it the "]" counts.
    mark = flag("close") + bos + 0.496 * (flag("newline") + flag("before_newline")) - one
    head_ends = flag("close") + flag("asked") + flag("colon") + bos - one
    layer1 = [
        _Head().near(recency).compare(ask, mark[None], _NEVER).carry(to_digit, Layout.source),
        _Head().near(recency).compare(ask, head_ends[None], _NEVER).carry(flag("close")[None], place("head")),
        # what has begun: the user's turn, in it the evidence, then the answer
        _Head().compare(ask, (3 * flag("assistant") + 2 * flag("close") + flag("user"))[None], 30.0)
        .carry(np.stack([flag("assistant"), flag("close"), flag("user")]), place("answering", "seen", "asking")),
        # what stands before the token before which the four seen so far stand
        _Head().near(np.full(8, 16.0), HEADS).carry(np.concatenate(coarse[1 : TRACES - HEADS + 1]), Layout.coarse[HEADS:].ravel()),
    ]  # fmt: skip

    meaning = _rows(Layout.meaning)
    # Where only some tokens may be looked at, the others are pushed down, and not these up: a token's norm then changes nothing between these.
    evidence = 30 * (sourced - one)
    # 0 where a sentence starts, else less
    starts = flag("before_end") + flag("before_asked") + flag("before_colon") + flag("opens") - 2 * one

    def voter(number: int) -> _Head:
        # no word of the evidence votes: where a source is known the beginning is looked at instead
        head = _Head().compare(matching.query[number] @ meaning, matching.key[number] @ meaning, 1.0)
        head.compare(ask, (evidence + (30 + matching.sink[number]) * bos)[None], 1.0).compare(sourced[None], bos[None], 60.0)
        return head.carry(matching.share[number] * _CHOICE * source, Layout.vote)

    layer2 = [
        *map(voter, range(VOTERS)),
        _Head().near(np.full(8, 16.0), 2).carry(flag("head")[None], place("after_head")),
    ]

    votes = _rows(Layout.vote).sum(0) / _CHOICE
    told = (
        _WEIGHT * flag("weight")
        + matching.certainty * votes
        + 30 * (flag("seen") - one)
        - 30 * (sourced + flag("answering") + flag("newline") + flag("before_newline"))
    )
    layer3 = [
        _Head().compare(flag("answering")[None], told[None], 1.0).compare((one - flag("answering"))[None], bos[None], 60.0)
        .carry(_rows(Layout.vote), Layout.choice),
        # the share of the first start of a sentence among those so far in the piece: 1, a half, a third …; and the same where a later one outweighs it by far
        _Head().compare(source, source, 20.0).compare(ask, (20 * (starts - one) + 50 * bos)[None], 1.0)
        .carry(flag("after_head")[None], place("early")),
        _Head().compare(source, source, 20.0).compare(ask, (20 * (starts - one) + 44 * bos - 6 * flag("after_head"))[None], 1.0)
        .carry(flag("after_head")[None], place("first")),
        # the share of the beginning of the answer among its citations so far: 1, a half, a third …
        _Head().compare(ask, (20 * (flag("answering") + flag("assistant") + flag("close") - 2 * one))[None], 1.0)
        .compare((one - flag("answering"))[None], bos[None], 60.0).carry(flag("assistant")[None], place("uncited")),
    ]  # fmt: skip

    choice = _rows(Layout.choice) / _CHOICE
    # the text after the head of a piece
    start = 10 * (flag("before_asked") + flag("before_colon") + flag("after_head") + sourced + 3 * flag("before_system") - 3 * one)
    start = start + prior + matching.refusal * flag("before_system")
    # or, a little less, what follows its number, or its place and topic: there the text of a piece without question and title begins
    start += 8 * flag("before_aside_end") + 18 * (flag("before_close") - flag("aside"))
    # where a sentence, or a line, of the evidence ends: 1 or more, else 0 or less
    ends = flag("before_end") + flag("before_asked") + flag("opens") + sourced + 2 * (flag("newline") + bos - one)
    # rather an early sentence than a later one; never the question, the head of a piece, or the answer itself
    wanted = 24 * flag("early") + 12 * sourced - 30 * (flag("asking") + flag("seen")) + 2 * prior + 15 * bos
    wanted -= 40 * (flag("head") + flag("after_head")) + 60 * flag("answering")
    # after a citation the evidence all the more, but not the first sentence again
    later = 40 * sourced - 80 * flag("first")

    def same_context(passed: int) -> _Head:
        """Looks at the evidence where the tokens before are those before this one, of which the last `passed` do not count."""
        head = _Head()
        for back in range(TRACES):
            asking, asked = back + passed, back + 1 - passed
            # the nearer, the more it counts: before the answer stands a question, whose end may stand before the text of a piece as well
            if back < _FINELY:
                head.compare(fine[asking], fine[asked], _SAME[back]).compare(edges[asking][None], edges[asked][None], _SAME[back])
            else:
                head.compare(coarse[asking], coarse[asked], _SAME[back])
        head.compare(choice, source, 2.0).compare(ask, wanted[None], 1.0)
        return head.compare((one - flag("uncited"))[None], later[None], 1.0)

    # what is no part of the answer looks at the beginning, and so does a token that is the business of another head
    elsewhere = one - flag("answering")
    # the earliest sentence of the piece that was cited, but for its first; or the end, which scores between that and any other start
    again = 60 * (flag("before_end") + flag("before_asked") + flag("opens") + sourced - 4 * one) + 36 * flag("early")
    again += 335 * flag("assistant") - 40 * flag("after_head") - 60 * flag("answering")
    layer4 = [
        _Head().compare(choice, source, _DECIDED).compare(flag("assistant")[None], start[None], _DECIDED)
        .compare((one - flag("assistant"))[None], bos[None], 60.0).carry(6 * identity, Layout.identity),
        same_context(0)
        .compare((elsewhere + flag("assistant") + flag("open") + flag("before_open") + flag("close"))[None], bos[None], 200.0)
        .carry(6 * identity, Layout.identity).carry(14 * ends[None], writes(special.open)),
        # after " [" the number, and after the number "]"
        same_context(1).compare((elsewhere + one - flag("open") - flag("before_open"))[None], bos[None], 200.0)
        .compare(flag("before_open")[None], flag("assistant")[None], 300.0)
        .carry(14 * source, to_number).carry(14 * flag("assistant")[None], writes(special.close[0])),
        _Head().compare(source, source, 60.0).compare(ask, again[None], 1.0)
        .compare((0.417 * one - flag("uncited"))[None], flag("assistant")[None], 600.0)
        .compare((elsewhere + one - flag("close"))[None], bos[None], 600.0)
        .carry(6 * identity, Layout.identity).carry(14 * flag("assistant")[None], writes(special.end_of_turn)),
    ]  # fmt: skip
    return [heads + [_Head() for _ in range(HEADS - len(heads))] for heads in (layer0, layer1, layer2, layer3, layer4)]


def _padded(prior: np.ndarray) -> np.ndarray:
    """(DIGITS,): places that were never seen count as the last one that was."""
    return np.pad(prior, (0, DIGITS - len(prior)), mode="edge")


def _recency() -> np.ndarray:
    """Amplitudes >= 0 of the turning dimensions whose cosines fall with every token of distance up to _REACH, and are lower still beyond.

    As fast as can be: a curve that is only near a straight line rises in places, and there a token would belong to the piece before its own.
    """
    near = np.arange(_REACH)
    lags = np.array([1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 80, 120, 200, 400, 700, 1100, 1500])
    frequencies = _FREQUENCY[_TURNING]
    rises = np.concatenate([np.cos(np.outer(near + lag, frequencies)) - np.cos(np.outer(near, frequencies)) for lag in lags])
    least = np.repeat(np.minimum(lags, 20.0), _REACH)[:, None]  # times the slope, which is to be as large as can be
    count = len(frequencies)
    found = linprog(
        [0.0] * count + [-1.0],
        A_ub=np.block([[rises, least], [np.ones((1, count)), np.zeros((1, 1))]]),
        b_ub=np.append(np.zeros(len(rises)), _RECENCY),
        bounds=[(0, None)] * count + [(None, None)],
    )
    return found.x[:count]
