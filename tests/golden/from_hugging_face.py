"""Numbers of transformers' T5ForConditionalGeneration for given weights. Needs torch and transformers."""

import numpy as np
import torch
import transformers

from explainft.checkpoints.hugging_face import tensor_names
from explainft.data.vocabulary import EOS_ID
from explainft.model.config import T5Config
from tests.golden.cases import Flat, examples, flatten


def model(config: T5Config, params) -> transformers.T5ForConditionalGeneration:
    """Makes the model with the given weights, in float32 and without dropout."""
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.emb_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            feed_forward_proj="relu" if config.mlp_activations == ("relu",) else "gated-gelu",
            tie_word_embeddings=config.logits_via_embedding,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    ).eval()
    if not config.logits_via_embedding:
        # A model made from a config alone ties its output layer even where the config says no (transformers 5).
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(theirs.shared.weight))
    tensors, flat = dict(theirs.named_parameters()), flatten(params)
    names = tensor_names(config)
    assert set(tensors) == {name for name, _ in names.values()} and set(flat) == set(names)
    with torch.no_grad():
        for path, (name, transposed) in names.items():
            tensors[name].copy_(torch.from_numpy(flat[path].T if transposed else flat[path]))
    return theirs


def gradients(theirs: transformers.T5ForConditionalGeneration, config: T5Config) -> Flat:
    """The gradients of the last backward pass, with our names and shapes."""
    tensors, flat = dict(theirs.named_parameters()), {}
    for path, (name, transposed) in tensor_names(config).items():
        gradient = tensors[name].grad
        assert gradient is not None, name
        flat[path] = (gradient.T if transposed else gradient).numpy()
    return flat


def loss_and_gradients(config: T5Config, params, batch) -> tuple[np.ndarray, float, Flat]:
    """Logits [B, T, V], mean cross entropy over the real targets and its gradients, for a padded batch."""
    theirs = model(config, params)
    inputs, targets = (
        torch.from_numpy(batch[name]).long() for name in ("encoder_input_tokens", "decoder_target_tokens")
    )
    out = theirs(
        input_ids=inputs,
        attention_mask=(inputs > 0).long(),
        labels=targets.masked_fill(targets == 0, -100),
    )
    out.loss.backward()
    return out.logits.detach().numpy(), out.loss.item(), gradients(theirs, config)


def each_alone(config: T5Config, params) -> tuple[np.ndarray, float, Flat]:
    """The same for each of `examples` by itself, without padding or mask: all logits [N, V], one loss over all."""
    theirs = model(config, params)
    all_logits, loss_sum, total = [], 0.0, sum(len(targets) for _, targets in examples(config))
    for inputs, targets in examples(config):
        labels = torch.from_numpy(targets[None]).long()
        out = theirs(input_ids=torch.from_numpy(inputs[None]).long(), labels=labels)
        (out.loss * len(targets) / total).backward()
        loss_sum += out.loss.item() * len(targets)
        all_logits.append(out.logits[0].detach().numpy())
    return np.concatenate(all_logits), loss_sum / total, gradients(theirs, config)


def generate(config: T5Config, params, prompts, length: int, batch_size: int) -> tuple[list[list[int]], list[float]]:
    """Greedy decoding in the prompts' order, up to EOS; and the smallest lead of a logit that was chosen, for each."""
    theirs, outputs, leads = model(config, params), [], []
    for start in range(0, len(prompts), batch_size):
        rows = prompts[start : start + batch_size]
        batch = np.zeros((len(rows), max(map(len, rows))), int)
        for r, ids in enumerate(rows):
            batch[r, : len(ids)] = ids
        inputs = torch.from_numpy(batch)
        out = theirs.generate(
            inputs,
            attention_mask=(inputs > 0).long(),
            num_beams=1,
            do_sample=False,
            max_new_tokens=length,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best_two = torch.stack(out.logits, dim=1).topk(2).values
        for ids, (first, second) in zip(out.sequences[:, 1:].tolist(), best_two.movedim(-1, 1), strict=True):
            end = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
            outputs.append(ids[:end])
            leads.append(float((first - second)[: end + 1].min()))
    return outputs, leads


def relative_position_buckets(distances: np.ndarray, bidirectional: bool, max_distance: int) -> np.ndarray:
    bucket = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    return bucket(torch.from_numpy(distances), bidirectional=bidirectional, max_distance=max_distance).numpy()
