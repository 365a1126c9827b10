"""The first weights of the nano Llama: not random, but a circuit that already compares, points and copies; training starts from there.

Copying and pointing are phase changes: from random weights they appear after thousands of steps, more than two cores do in an hour.
Written by hand they are there at step 0. The circuit follows induction heads (Olsson et al. 2022, "In-context learning and induction
heads") and late interaction (Khattab and Zaharia 2020, ColBERT), and only uses what a Llama has: RoPE attention and a residual stream.

The stream is cut into named parts (`Layout`). The token embedding fills `meaning` (the bundled static encoder's vector of the piece, so that
words of seven languages are comparable), `identity` (a random unit vector, which the tied output layer reads) and a few flags.
    layer 0   four heads look back 1 to 4 tokens: every token knows which tokens stand before it
    layer 1   which piece of evidence a token belongs to (the digit before the nearest "]"); whether evidence, and the answer, have begun
    layer 2   each word of the repeated question spreads its votes over the tokens of the evidence that mean the same; the source of a copied token
    layer 3   the answer collects the votes; after a citation, the sentence that follows the quoted one is found again
    layer 4   pointing at the start of the chosen sentence; copying the next token; " [" after a sentence, and the number of its source
What the words mean, which dimensions the votes compare and what a vote counts was learned before (generator_match). Feed-forward layers and spare heads
start with no effect, and are trained.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from transformers import LlamaConfig, LlamaForCausalLM

from index_builder.train.generator_match import MEANING, VOTERS, Matching

ROPE_THETA = 1e12  # so that most of a head's dimensions hardly turn within the context: they compare contents, the others distances
IDENTITY, TRACE, DIGITS = 96, 20, 9
_CONSTANT = 3.0  # large beside the rest of a token, so that its norm hardly depends on the token
_WEIGHT = 8.0  # flags stay small
_CHOICE = 0.2  # likewise: the votes collected grow to about 10
_FLAGS = ("constant", "bos", "newline", "close", "assistant", "system", "end", "asked", "colon", "open", "weight",
          "before_newline", "before_start", "before_first", "before_refusal", "begins", "second", "answering", "seen")  # fmt: skip
WIDTH = 352
HEADS, HEAD = 4, 96
LAYERS = 5
_AFTER = MEANING + IDENTITY + 4 * TRACE  # where the small parts of the stream begin


@dataclass(frozen=True, slots=True)
class Special:
    """Token ids that the circuit knows by name, and per token what its flags are."""

    bos: int
    newline: int
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


class Layout:
    """Where in the residual stream each part lies."""

    meaning = np.arange(MEANING)
    identity = MEANING + np.arange(IDENTITY)
    traces = MEANING + IDENTITY + np.arange(4 * TRACE).reshape(4, TRACE)  # identity of the token 1, 2, 3, 4 before, compressed
    source = _AFTER + np.arange(DIGITS)  # one-hot: the piece of evidence that a token belongs to
    vote = _AFTER + DIGITS + np.arange(DIGITS)  # of a word of the question
    choice = _AFTER + 2 * DIGITS + np.arange(DIGITS)  # the votes collected
    copied = _AFTER + 3 * DIGITS + np.arange(DIGITS)  # the piece of evidence that the next token is copied from
    flag = dict(zip(_FLAGS, range(_AFTER + 4 * DIGITS, WIDTH), strict=False))


def nano_config(vocabulary: int, special: Special, context: int = 2048) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, head_dim=HEAD, max_position_embeddings=context, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=special.bos, eos_token_id=special.end_of_turn, pad_token_id=0,
    )  # fmt: skip


def embeddings(matching: Matching, special: Special, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(vocabulary, WIDTH) token embeddings, and the (TRACE, IDENTITY) projection by which a token remembers those before it."""
    random = np.random.default_rng(seed)
    vocabulary = len(matching.meaning)
    identity = random.normal(size=(vocabulary, IDENTITY))
    trace, _ = np.linalg.qr(random.normal(size=(IDENTITY, TRACE)))
    named = (*special.digits, special.newline, special.bos, *special.close[:1])
    identity[list(named)] = (
        trace[:, : len(named)].T + identity[list(named)] - identity[list(named)] @ trace @ trace.T
    )  # traces at right angles
    # every identity leaves a trace of the same length
    remembered = identity @ trace @ trace.T
    rest = identity - remembered
    share = TRACE / IDENTITY
    identity = np.sqrt(share) * _unit(remembered) + np.sqrt(1 - share) * _unit(rest)
    for token in special.close[1:]:
        identity[token] = 0.9 * identity[special.close[0]] + 0.43 * identity[token]
    # a mark is the same in the text and at the beginning of a line
    identity[special.bracket] = 0.9 * identity[special.open] + 0.43 * identity[special.bracket]
    # where the copied text ends its line, the answer ends: a copied end of line is rather this
    identity[special.end_of_turn] = 1.15 * identity[special.newline] + 0.6 * identity[special.end_of_turn]

    table = np.zeros((vocabulary, WIDTH))
    table[:, Layout.meaning] = matching.meaning
    table[:, Layout.identity] = identity
    # What is a flag has no meaning beside it: a long vector would weaken the flag, since a token's norm divides all of it.
    marks = [special.bos, special.newline, *special.close, *special.sentence_end, *special.asked, *special.colon, *special.digits]
    table[np.ix_(marks, Layout.meaning)] = 0
    flag = Layout.flag
    table[:, flag["constant"]] = _CONSTANT
    table[:, flag["weight"]] = matching.weight / _WEIGHT
    table[marks, flag["weight"]] = -0.5
    for name, tokens in (
        ("bos", [special.bos]), ("newline", [special.newline]), ("assistant", [special.assistant]), ("system", [special.system]),
        ("open", [special.open]), ("asked", special.asked), ("colon", special.colon),
        ("close", special.close), ("end", special.sentence_end),
    ):  # fmt: skip
        table[list(tokens), flag[name]] = 1
    return table.astype(np.float32), (trace.T * np.sqrt(IDENTITY / TRACE)).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_FREQUENCY = ROPE_THETA ** -(np.arange(HEAD // 2) / (HEAD // 2))
_STILL = [i for i in range(HEAD // 2) if _FREQUENCY[i] < 3e-4]  # turn by less than half a radian in 1,600 tokens
_CONTENT = np.array(_STILL + [i + HEAD // 2 for i in _STILL])
_TURNING = [i for i in range(HEAD // 2) if i not in _STILL]
_RECENCY = 2.0  # by which a score falls per token of distance


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

    def near(self, amplitudes: np.ndarray, distance: int = 0, asks: np.ndarray | None = None) -> "_Head":
        """Adds sum_i amplitudes[i] (cos(frequency_i (d - distance)) - 1) to the score, d tokens back, times `asks` of the asking token (default 1).

        At `distance` it is 0, whatever the norm of the token there.
        """
        asks = _constant() if asks is None else asks
        for i, amplitude in zip(_TURNING, amplitudes, strict=False):
            turn = _FREQUENCY[i] * distance
            self.query[i] += amplitude * np.cos(turn) * asks
            self.query[i + HEAD // 2] -= amplitude * np.sin(turn) * asks
            self.key[i] += _constant()
        return self.compare(asks[None], -_constant()[None], float(np.sum(amplitudes)))

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
    return _flag("constant") / _CONSTANT


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
    table, trace = embeddings(matching, special, seed)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(table))
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
        own = np.zeros((TRACE, WIDTH))
        own[:, Layout.identity] = trace
        number = Layout.identity, table[list(special.digits)][:, Layout.identity].T  # one-hot -> identity of the digit
        for index, heads in enumerate(_circuit(matching, own, table, special, number)):
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


def _circuit(matching: Matching, own: np.ndarray, table: np.ndarray, special: Special, number) -> list[list[_Head]]:
    traces = [_rows(places) for places in Layout.traces]
    flag = _flag
    # what a head writes when it rests on the beginning of the text must be nothing
    identity = _rows(Layout.identity) - np.outer(table[special.bos, Layout.identity], flag("bos"))
    recency = _recency()
    ask, one = _constant()[None], _constant()
    bos = flag("bos")

    layer0 = []
    for distance in (1, 2, 3, 4):
        head = _Head().near(np.full(8, 16.0), distance).carry(own, Layout.traces[distance - 1])
        if distance == 1:
            places = [Layout.flag[name] for name in ("before_newline", "before_start", "before_first", "before_refusal")]
            head.carry(np.stack([flag("newline"), flag("end"), flag("asked") + 0.95 * flag("colon"), flag("system")]), np.array(places))
            head.carry((flag("close") + flag("assistant"))[None], np.array([Layout.flag["begins"]]))
        if distance == 2:
            head.carry((flag("end") + flag("asked") + flag("colon") + flag("system"))[None], np.array([Layout.flag["second"]]))
        layer0.append(head)

    # identity of a digit (its trace) -> one-hot; the traces of digits are at right angles
    to_digit = np.zeros((DIGITS, WIDTH))
    digit_traces = table[list(special.digits)][:, Layout.identity] @ own[:, Layout.identity].T
    to_digit[:, Layout.traces[0]] = digit_traces / (digit_traces**2).sum(1, keepdims=True)
    # The others are pushed down, and not these up: between a short and a long token only the distance decides. One end of line is no mark,
    # since it keeps a trace of whatever stands before it; an empty line is one, but of it and a "]" soon after it the "]" counts.
    mark = flag("close") + bos + 0.485 * (flag("newline") + flag("before_newline")) - one
    layer1 = [
        _Head().near(recency).compare(ask, mark[None], 1000.0).carry(to_digit, Layout.source),
        _Head()
        .compare(ask, (flag("assistant") + 0.5 * bos)[None], 60)
        .carry(flag("assistant")[None], np.array([Layout.flag["answering"]])),
        _Head().compare(ask, flag("close")[None], 30.0).carry(flag("close")[None], np.array([Layout.flag["seen"]])),
    ]

    meaning = _rows(Layout.meaning)
    # Where only some tokens may be looked at, the others are pushed down, and not these up: a token's norm then changes nothing between these.
    evidence = 30 * (_any_source() - one)

    def same_context(head: _Head, contexts: int = 3) -> _Head:
        """Looks at the token after the one that stood in this context before: this token, and with less weight those before it."""
        for asking, asked, strength in ((own, traces[0], 30.0), (traces[0], traces[1], 15.0), (traces[1], traces[2], 10.0))[:contexts]:
            head.compare(asking, asked, strength)
        head.compare(flag("begins")[None], flag("second")[None], 12.0)  # the first token of a sentence has no context yet but its place
        return head.compare(ask, (22 * bos + 10 * _any_source())[None], 1.0)  # in the evidence rather than in the question

    def voter(place: int) -> _Head:
        # no word of the evidence votes: where a source is known the beginning is looked at instead
        head = _Head().compare(matching.query[place] @ meaning, matching.key[place] @ meaning, 1.0)
        head.compare(ask, (evidence + (30 + matching.sink[place]) * bos)[None], 1.0).compare(_any_source()[None], bos[None], 60.0)
        return head.carry(matching.share[place] * _CHOICE * _rows(Layout.source), Layout.vote)

    layer2 = [*map(voter, range(VOTERS)), same_context(_Head()).carry(_rows(Layout.source), Layout.copied)]

    votes = _rows(Layout.vote).sum(0) / _CHOICE
    told = (
        _WEIGHT * flag("weight")
        + matching.certainty * votes
        + 30 * (flag("seen") - one)
        - 30 * (_any_source() + flag("newline") + flag("before_newline"))
    )
    collects = flag("assistant") + flag("answering")
    layer3 = [
        _Head().compare(collects[None], told[None], 1.0).compare((one - collects)[None], bos[None], 60.0)
        .carry(_rows(Layout.vote), Layout.choice),
        # "]" of the answer: the sentence that it cites ended 3 tokens before; what follows that end in the evidence comes next
        _Head().compare(np.concatenate([traces[2], traces[3]]), np.concatenate(traces[:2]), 24.0)
        .compare((flag("close") + flag("answering"))[None], -bos[None], 100.0).compare(ask, bos[None], 210.0)
        .carry(8 * identity, Layout.identity),
    ]  # fmt: skip

    to_open = np.zeros((WIDTH, 1))
    to_open[Layout.identity, 0] = table[special.open, Layout.identity]
    to_number = np.zeros((WIDTH, DIGITS))
    to_number[number[0]] = number[1]
    # the start of a sentence and within a piece of evidence: either alone is pushed down
    start = 15 * (flag("before_start") + flag("before_first") + 2 * flag("before_refusal") + _any_source() - 2 * one) - 30 * flag("newline")
    start = (
        start + 3 * flag("before_first") + (3 + matching.refusal) * flag("before_refusal") + _padded(matching.prior) @ _rows(Layout.source)
    )
    layer4 = [
        _Head().compare(_rows(Layout.choice) / _CHOICE, _rows(Layout.source), 1.0).compare(flag("assistant")[None], start[None], 1.0)
        .compare((one - flag("assistant"))[None], bos[None], 60.0).carry(6 * identity, Layout.identity),
        same_context(_Head(), 2).compare(_rows(Layout.choice) / _CHOICE, _rows(Layout.source), 2.0)
        .compare(flag("answering")[None], (_padded(matching.prior) @ _rows(Layout.source))[None], 2.0)
        .compare(flag("assistant")[None], bos[None], 60.0).carry(4 * identity, Layout.identity),
        _Head().compare((flag("end") + flag("answering") - 1.5 * one)[None], flag("assistant")[None], 60.0).compare(ask, bos[None], 6.0)
        .carry(14 * flag("assistant")[None], to_open),
        _Head().near(np.full(8, 16.0), 1, asks=flag("open")).compare((one - flag("open"))[None], bos[None], 60.0)
        .carry(14 * _rows(Layout.copied), to_number),
    ]  # fmt: skip
    return [heads + [_Head() for _ in range(HEADS - len(heads))] for heads in (layer0, layer1, layer2, layer3, layer4)]


def _padded(prior: np.ndarray) -> np.ndarray:
    """(DIGITS,): places that were never seen count as the last one that was."""
    return np.pad(prior, (0, DIGITS - len(prior)), mode="edge")


def _recency() -> np.ndarray:
    """Amplitudes >= 0 of the turning dimensions whose cosines fall by about _RECENCY per token from 0 to 1,500 tokens back."""
    distance = np.concatenate([np.arange(0, 100), np.arange(100, 1500, 7)])
    cosines = np.cos(distance[:, None] * _FREQUENCY[_TURNING])
    amplitudes, _ = nnls(np.concatenate([cosines - 1]), -_RECENCY * distance)
    return amplitudes
