"""From a checkpoint to a server that listens: limits, warm-up, and how it ends."""

import contextlib
import dataclasses
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from tqdm import tqdm

from explainft.checkpoints import convert
from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError, require_positive
from explainft.evaluation.inference_inputs import InputReader, input_reader
from explainft.evaluation.loading import LoadedModel, load_model
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.serving.app import Service
from explainft.serving.batch import Batch, Limits
from explainft.serving.engine import Engine
from explainft.serving.metrics import Metrics
from explainft.serving.requests import RequestReader

API_KEY = "EXPLAINFT_API_KEY"
MIN_INPUT_LENGTH, MIN_OUTPUT_LENGTH = 512, 256  # tokens, of the default limits
USUAL = 128, 128  # tokens of an input and an output of a checkpoint that does not say
MAX_PORT = 65_535
BACKLOG = 2048  # connections that wait to be accepted, as in uvicorn


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Where the server listens and what it takes on. None: what suits the checkpoint; lengths are in tokens."""

    host: str = "127.0.0.1"
    port: int = 8000
    model_name: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    rows: int = 32
    max_queued: int = 256
    max_body: int = 2**20

    def __post_init__(self):
        require_positive(**{"--batch_size": self.rows, "--max_queued": self.max_queued, "--max_body": self.max_body})
        if not 0 <= self.port <= MAX_PORT:
            raise UserError(f"--port={self.port} must be from 0, any free one, to {MAX_PORT}")


def serve(path: str, step: int | str | None, decode_config: DecodeConfig, config: ServeConfig) -> None:
    """Serves a checkpoint until SIGTERM or Ctrl-C, after which what was accepted is still answered."""
    key = os.environ.get(API_KEY) or None
    check_host(config.host, key)
    # SIGTERM ends the process with 0, also during the warm-up; uvicorn raises it again after its own shutdown.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    weights = convert.open_weights(path, step)
    listener = bind(config.host, config.port)  # before the warm-up: a port in use ends it at once
    service = open_service(path, weights, decode_config, config, key)
    engine = service.engine
    server = uvicorn.Server(uvicorn.Config(service.app(), log_level="warning", access_log=False, lifespan="off"))
    name, port = listener.getsockname()[:2]
    address = f"[{name}]" if ":" in name else name
    engine.start()
    listener.listen(BACKLOG)  # who reads the next line can connect
    print(f"{service.reader.model} is served at http://{address}:{port}/v1", flush=True)
    try:
        server.run(sockets=[listener])
    finally:
        engine.close()


def open_service(
    path: str, weights: Weights, decode_config: DecodeConfig, config: ServeConfig, key: str | None
) -> Service:
    """Loads a checkpoint and compiles its programs. The engine has not started."""
    meta = weights.meta
    if meta.get("next_input"):
        raise UserError(f"{path} decodes in several rounds, which a request cannot; use explainft infer")
    vocabulary = weights.tokenizer()
    limits = choose_limits(meta, config)
    loaded = load_model(weights, decode_config, limits.rows)
    batch: Batch[Any] = Batch(loaded.model, _parameters(loaded), limits)
    with tqdm(total=batch.num_programs(), desc="compiling", unit=" programs", disable=None, leave=False) as bar:
        batch.warm_up(bar.update)
    reader = RequestReader(
        model=config.model_name or Path(path).absolute().name,
        vocabulary=vocabulary,
        vocab_size=loaded.model.config.vocab_size,
        limits=limits,
        max_outputs=config.max_queued,
        reader=_question_reader(weights),
        computes_answers="questions" not in meta,
    )
    return Service(reader, Engine(batch, vocabulary, config.max_queued, Metrics()), key, config.max_body)


def _parameters(loaded: LoadedModel) -> Any:
    output_ids = loaded.weights.meta.get("output_ids")
    return decode_parameters(loaded.model.config, loaded.params, loaded.decode_config.dtype, output_ids)


def _question_reader(weights: Weights) -> InputReader | None:
    """Returns the reader of a run's questions; None where it has no problem that answers are read by."""
    if not weights.meta:
        return None
    try:
        return input_reader(weights.meta, weights.origin)
    except UserError:
        return None


def choose_limits(meta: Any, config: ServeConfig) -> Limits:
    """Returns the limits: by default the lengths that the run was trained on, and at least those of this module."""
    trained = meta.get("lengths") or {"inputs": USUAL[0], "targets": USUAL[1]}
    for name in ("max_input_tokens", "max_output_tokens"):
        if getattr(config, name) is not None:
            require_positive(**{f"--{name}": getattr(config, name)})
    return Limits(
        rows=config.rows,
        input_length=config.max_input_tokens or max(MIN_INPUT_LENGTH, trained["inputs"]),
        output_length=config.max_output_tokens or max(MIN_OUTPUT_LENGTH, trained["targets"]),
        usual=(trained["inputs"], trained["targets"]),
    )


def check_host(host: str, key: str | None) -> None:
    """Raises UserError for a host that others reach, where no key is set."""
    if key is None and not _is_loopback(host):
        raise UserError(f"--host={host} is open to others; set {API_KEY} to a secret of yours, or use 127.0.0.1")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that has the port but does not listen yet. Raises UserError where that fails."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()
            return listener
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot listen at --host={host} --port={port} ({reason}); choose another port") from error
