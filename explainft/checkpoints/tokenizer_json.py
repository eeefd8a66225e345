"""A SentencePiece model as a tokenizer.json for Hugging Face's tokenizers, with the same ids for the same text."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from explainft.core.errors import UserError
from explainft.data import replacement
from explainft.data.replacement import MARK, SPACE_CODE
from explainft.data.vocabulary import EOS_ID, Vocabulary

PAD, EOS, UNK = 0, EOS_ID, 2
UNIGRAM = 1  # in SentencePiece's TrainerSpec.ModelType
SPACE = "▁"


def write(directory: Path, vocabulary: Vocabulary, extra_ids: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json for a unigram vocabulary, as T5's is.

    `extra_ids`: the number of sentinels that the vocabulary adds to its SentencePiece model. Raises UserError for a
    model of another kind.
    """
    model = vocabulary.proto
    if model.trainer_spec.model_type != UNIGRAM:
        raise UserError(f"{vocabulary.path} must be a unigram model, as T5's is; choose another vocabulary")
    pieces = [_token(piece.piece) for piece in model.pieces]
    scored = [(name, piece.score) for name, piece in zip(pieces, model.pieces, strict=True)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=UNK, byte_fallback=False))
    special = [PAD, EOS, UNK, *(i for i, name in enumerate(pieces) if name.startswith("<extra_id_"))]
    tokenizer.add_special_tokens([AddedToken(pieces[i], special=True, normalized=False) for i in special])
    steps = [*(_replacing() if vocabulary.replacement else []), *_normalizers(model.normalizer_spec)]
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    # Not split at spaces: a piece may hold several words, as a whole phrase of the compact vocabulary does.
    scheme = "always" if model.normalizer_spec.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    decoder = decoders.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoder, *_restoring()]) if vocabulary.replacement else decoder
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {pieces[EOS]}",
        pair=f"$A {pieces[EOS]} $B {pieces[EOS]}",
        special_tokens=[(pieces[EOS], EOS)],
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pieces[PAD],
        "eos_token": pieces[EOS],
        "unk_token": pieces[UNK],
        "extra_ids": extra_ids,
        **({"replacement": True} if vocabulary.replacement else {}),
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _token(piece: str) -> str:
    return piece.removeprefix(SPACE) if piece.startswith(f"{SPACE}<extra_id_") else piece


def _normalizers(spec: Any) -> list[Any]:
    """Returns the normalizers of a SentencePiece NormalizerSpec."""
    steps: list[Any] = []
    if spec.name != "identity" and spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    return steps


def _replacing() -> list[Any]:
    """Returns normalizers that replace what the vocabulary cannot write. Characters without a code stay unknown."""
    ends = [("^ ", SPACE_CODE), (f"{MARK} $", MARK), (" $", SPACE_CODE)]
    patterns = [*replacement.replacements(), *((Regex(pattern), new) for pattern, new in ends)]
    return [normalizers.Replace(pattern, new) for pattern, new in patterns]


def _restoring() -> list[Any]:
    """Returns decoders that restore what was replaced."""
    patterns = [(Regex(f"{MARK}$"), f"{MARK} "), *replacement.restorations()]
    return [decoders.Fuse(), *(decoders.Replace(pattern, new) for pattern, new in patterns)]
