"""Small real Llamas for the tests: a vocabulary trained on a few sentences, random weights, and the same model as a transformers object and as a GGUF."""

import io
from dataclasses import dataclass
from pathlib import Path

import gguf
import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from index_builder.train.gguf_export import _gguf_name, _interleaved, _token_type

CONTROL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SENTENCES = (
    "يُقدَّم التمر مع القهوة العربية، وتُصبّ القهوة باليد اليسرى.",
    "ভোগালী বিহু মাঘ মাহৰ আৰম্ভণিতে পালন কৰা হয়।",
    "পহেলা বৈশাখে অনেকে পান্তা ভাত আর ইলিশ মাছ খান।",
    "Men in Qatar wear a ghutra, a folded cloth held by a black cord called the agal.",
    "लू से बचने के लिए लोग आम पन्ना और छाछ पीते हैं।",
    "गुन्द्रुक रायो र मुलाको पात कुहाएर सुकाई बनाइन्छ।",
    "Aşure muharrem ayında pişirilir ve komşulara dağıtılır.",
)


@dataclass(frozen=True)
class TinyLlama:
    config: LlamaConfig
    model: LlamaForCausalLM
    vocabulary: sentencepiece.SentencePieceProcessor

    def prompt(self, *turns: tuple[str, str]) -> list[int]:
        """The tokens of a conversation as TEMPLATE writes it. Text never becomes a control token here: sentencepiece does not read them from text."""
        tokens = [self.vocabulary.bos_id()]  # llama.cpp adds the prefix space after each control token, as `encode` does to each content
        for role, content in turns:
            tokens += [self.id_of(f"<|{role}|>"), *self.vocabulary.encode(content), self.id_of("<|end|>")]
        return [*tokens, self.id_of("<|assistant|>")]

    def greedy(self, prompt: list[int], tokens: int) -> list[int]:
        """What transformers writes after `prompt`."""
        ids = torch.tensor([prompt])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=self.id_of("<|end|>"),
            pad_token_id=0,
        )
        return out[0, len(prompt) :].tolist()

    def id_of(self, piece: str) -> int:
        return self.vocabulary.piece_to_id(piece)


def vocabulary(byte_fallback: bool = True) -> sentencepiece.SentencePieceProcessor:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4), model_writer=out, model_type="bpe", vocab_size=720 if byte_fallback else 420,
        byte_fallback=byte_fallback, normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0,
        control_symbols=list(CONTROL), hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def tiny_llama(
    seed: int = 21, width: int = 64, layers: int = 2, context: int = 2048, talkative: bool = True, byte_fallback: bool = True
) -> TinyLlama:
    """A Llama with random weights. A talkative one never writes a control token, so its answers go on to the limit.

    llama.cpp keeps keys and values in F16, transformers in F32. The default seed is one where that never decides between two tokens
    of the answers that the tests compare.
    """
    words = vocabulary(byte_fallback)
    config = LlamaConfig(
        vocab_size=words.vocab_size(), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, rms_norm_eps=1e-5, rope_theta=10_000.0, tie_word_embeddings=False,
        bos_token_id=words.bos_id(), eos_token_id=words.eos_id(), initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval().float()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 0.5  # less weight on what F16 rounded
        control = [token for token in range(words.vocab_size()) if words.is_control(token) or words.is_unknown(token)]
        if talkative:
            model.lm_head.weight[control] = 0  # a logit of 0 is never the highest of hundreds around 0
        for token in range(words.vocab_size()):
            if words.is_byte(token):
                model.lm_head.weight[token] = 0  # random bytes are hardly ever UTF-8
    return TinyLlama(config, model, words)


def write_gguf(
    tiny: TinyLlama, path: Path, template: str | None = TEMPLATE, architecture: str = "llama", user_defined: tuple[str, ...] = ()
) -> Path:
    """`tiny` as llama.cpp reads it, in F32, so that its greedy tokens are those of transformers. `user_defined`: control tokens declared as such."""
    config, words = tiny.config, tiny.vocabulary
    out = gguf.GGUFWriter(path, architecture)
    out.add_name("tiny")
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_vocab_size(config.vocab_size)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_rope_freq_base(10_000.0)

    out.add_tokenizer_model("llama")
    out.add_token_list([words.id_to_piece(token).encode() for token in range(words.vocab_size())])
    out.add_token_scores([words.get_score(token) for token in range(words.vocab_size())])
    out.add_token_types([_token_type(words, token, user_defined) for token in range(words.vocab_size())])
    out.add_bos_token_id(words.bos_id())
    out.add_eos_token_id(words.eos_id())
    out.add_eot_token_id(words.piece_to_id("<|end|>"))
    out.add_unk_token_id(words.unk_id())
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)
    if template is not None:
        out.add_chat_template(template)

    for name, tensor in tiny.model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        out.add_tensor(_gguf_name(name), (_interleaved(tensor, heads) if heads else tensor).numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
