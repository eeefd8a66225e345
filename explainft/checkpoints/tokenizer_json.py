"""A SentencePiece model as the tokenizer.json of Hugging Face's tokenizers, with the same ids for the same text."""

import base64
import json
from pathlib import Path
from typing import Any

from explainft.core.errors import UserError
from explainft.data.vocabulary import EOS_ID, Vocabulary

PAD, EOS, UNK = 0, EOS_ID, 2
UNIGRAM = 1  # in SentencePiece's TrainerSpec.ModelType


def write(folder: Path, vocabulary: Vocabulary, extra_ids: int) -> None:
    """tokenizer.json and tokenizer_config.json for a vocabulary of the unigram kind, which T5's and ours are."""
    model = vocabulary.proto
    if model.trainer_spec.model_type != UNIGRAM:
        raise UserError(f"{vocabulary.path} is no unigram model; give a vocabulary of the kind that T5 has")
    pieces = [_piece(piece.piece) for piece in model.pieces]
    special = [PAD, EOS, UNK, *(i for i, piece in enumerate(pieces) if piece.startswith("<extra_id_"))]
    spaces = model.normalizer_spec
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": pieces[i],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i in special
        ],
        "normalizer": _normalizer(spaces),
        # Not split at spaces: a piece may hold several words, as a whole phrase of the compact vocabulary does.
        "pre_tokenizer": _metaspace(spaces.add_dummy_prefix),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": pieces[EOS], "type_id": 0}}],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": pieces[EOS], "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": pieces[EOS], "type_id": 0}},
            ],
            "special_tokens": {pieces[EOS]: {"id": pieces[EOS], "ids": [EOS], "tokens": [pieces[EOS]]}},
        },
        "decoder": _metaspace(spaces.add_dummy_prefix),
        "model": {
            "type": "Unigram",
            "unk_id": UNK,
            "vocab": [[name, piece.score] for name, piece in zip(pieces, model.pieces, strict=True)],
            "byte_fallback": False,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pieces[PAD],
        "eos_token": pieces[EOS],
        "unk_token": pieces[UNK],
        "extra_ids": extra_ids,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _piece(name: str) -> str:
    return name.removeprefix("▁") if name.startswith("▁<extra_id_") else name


def _metaspace(prefix: bool) -> dict[str, Any]:
    scheme = "always" if prefix else "never"
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}


def _normalizer(spec: Any) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if spec.name != "identity" and spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return {"type": "Sequence", "normalizers": steps} if steps else None
