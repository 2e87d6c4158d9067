"""A tiny Whisper in CTranslate2's format that always says the same sentence, built from numpy arrays.

The decoder's state depends only on the position (its embeddings, attention outputs and feed-forward outputs are zero,
its position encodings are one-hot), and the projection maps each position to the next token of the script. Loading,
features, encoder, beam search, language detection, timestamps and cross-attention alignment all run for real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import model_spec, whisper_spec
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = "Hello there, this is a talk. Do you hear me?"
_WIDTH, _HEADS, _MELS = 64, 2, 80
_LANGUAGES = ("en", "de", "fr")
_UNUSED = "<unused>"
_TIMESTAMPS = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
_SOT_TOKENS = 3
"""start of transcript, language, task."""


def build(folder: Path) -> None:
    """Write a complete model folder: weights, configuration, vocabulary, tokenizer and preprocessor settings."""
    folder.mkdir(parents=True)
    tokenizer = _tokenizer()
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    spec = whisper_spec.WhisperSpec(1, _HEADS, 1, _HEADS)
    _fill(spec, _weights(tokenizer))
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [ids[f"<|{code}|>"] for code in _LANGUAGES]
    spec.config.alignment_heads = [[0, 0], [0, 1]]
    # CTranslate2 takes a model for multilingual when its vocabulary holds the empty token, which none of ours is.
    spec.register_vocabulary(["" if token == _UNUSED else token for token in tokens])
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"feature_size": _MELS, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400})
    )


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([" " + SENTENCES] * 9, trainer)
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGES), "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>", *_TIMESTAMPS]
    tokenizer.add_tokens([_UNUSED])
    tokenizer.add_special_tokens(special)
    return tokenizer


def _weights(tokenizer: Tokenizer) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    size = tokenizer.get_vocab_size()

    def noise(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    projection = np.zeros((size, _WIDTH), np.float32)
    text = tokenizer.encode(" " + SENTENCES, add_special_tokens=False).ids
    script = ["<|en|>", "<|transcribe|>", "<|0.00|>"]
    for position, token in enumerate(script):
        projection[tokenizer.token_to_id(token), position] = 20
    # With `notimestamps` in the prompt the text begins one position later: at the same one as after <|0.00|>.
    for position, index in enumerate([*text, tokenizer.token_to_id("<|endoftext|>")], _SOT_TOKENS):
        projection[index, position] = 20
    assert len(text) + _SOT_TOKENS < _WIDTH
    positions = np.zeros((448, _WIDTH), np.float32)
    positions[np.arange(448), np.arange(448) % _WIDTH] = 8
    square, wide, high = (_WIDTH, _WIDTH), (2 * _WIDTH, _WIDTH), (3 * _WIDTH, _WIDTH)
    return {
        "encoder/conv1/weight": noise(_WIDTH, _MELS, 3),
        "encoder/conv2/weight": noise(_WIDTH, _WIDTH, 3),
        "encoder/position_encodings/encodings": noise(1500, _WIDTH),
        "encoder/layer_0/self_attention/linear_0/weight": noise(*high),
        "encoder/layer_0/self_attention/linear_1/weight": noise(*square),
        "encoder/layer_0/ffn/linear_0/weight": noise(*wide),
        "encoder/layer_0/ffn/linear_1/weight": noise(_WIDTH, 2 * _WIDTH),
        "decoder/embeddings/weight": np.zeros((size, _WIDTH), np.float32),
        "decoder/position_encodings/encodings": positions,
        "decoder/projection/weight": projection,
        "decoder/layer_0/self_attention/linear_0/weight": noise(*high),
        "decoder/layer_0/self_attention/linear_1/weight": np.zeros(square, np.float32),
        "decoder/layer_0/attention/linear_0/weight": noise(*square),
        "decoder/layer_0/attention/linear_1/weight": noise(*wide),
        "decoder/layer_0/attention/linear_2/weight": np.zeros(square, np.float32),
        "decoder/layer_0/ffn/linear_0/weight": noise(*wide),
        "decoder/layer_0/ffn/linear_1/weight": np.zeros((_WIDTH, 2 * _WIDTH), np.float32),
    }


def _fill(spec: Any, weights: dict[str, NDArray[np.float32]]) -> None:
    """Set every array of the spec: named weights, biases of zero, norms of identity."""
    left = dict(weights)

    def visit(layer: Any, name: str, value: Any) -> None:
        leaf = name.rsplit("/", 1)[-1]
        if name in left:
            setattr(layer, leaf, left.pop(name))
        elif leaf == "gamma":
            layer.gamma = np.ones(_WIDTH, np.float32)
        elif leaf == "beta":
            layer.beta = np.zeros(_WIDTH, np.float32)
        elif leaf == "bias" and hasattr(layer, "weight") and "projection" not in name:
            layer.bias = np.zeros(weights[name.replace("/bias", "/weight")].shape[0], np.float32)

    model_spec.visit_spec(spec, visit)
    assert not left, f"weights without a place: {sorted(left)}"
