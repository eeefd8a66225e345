"""Serving requests: explainft's server, and Hugging Face's generate behind the same HTTP layer, one request at a time.

    python -m benchmarks.serve --clients 32

Each client sends its next request when the last one is answered. The weights are random and no output ends early, so
that all have the same number of tokens; the outputs of both contenders are compared. explainft streams. Hugging Face's
handler holds a lock and answers at once, so its first token comes with the last.
"""

import argparse
import asyncio
import functools
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import side_by_side
from benchmarks.side_by_side import BASELINE, Contender, Result, Results, Row

MODEL = "benchmark"
DECODE_DTYPES = {"explainft": "float32", "explainft, int8": "int8"}
LENGTHS = (24, 96)  # tokens of a prompt
MIN_EQUAL = 0.9  # of the outputs: float32 sums in another order choose another token now and then


def prepare(args: argparse.Namespace) -> None:
    from benchmarks import weights, word_vocabulary

    weights.write_random(Path(args.directory, "hf"), args.size)
    word_vocabulary.write(Path(args.directory, "words.model"), weights.SIZES[args.size].vocab_size)


def prompts(args: argparse.Namespace) -> list[list[int]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [[*rng.integers(3, 500, rng.integers(*LENGTHS)).tolist(), 1] for _ in range(args.requests)]


def listen(app: Any) -> int:
    """Serves an application in a thread; returns its port."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return listener.getsockname()[1]


async def request(port: int, ids: list[int], length: int) -> tuple[str, float]:
    """Returns the text of a streamed completion, and the seconds until its first token."""
    fields = {"model": MODEL, "prompt": ids, "max_tokens": length, "temperature": 0, "stream": True}
    body = json.dumps(fields).encode()
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    text, first = "", 0.0
    async for line in reader:
        if line.startswith(b"data: {"):
            text += json.loads(line[6:])["choices"][0]["text"]
            first = first or time.perf_counter() - begin
    writer.close()
    await writer.wait_closed()
    return text, first


def send_all(args: argparse.Namespace, port: int) -> Result:
    """Sends all requests from `args.clients` clients; returns what came back."""
    found: dict[int, tuple[str, float]] = {}

    async def run() -> None:
        pending = list(enumerate(prompts(args)))[::-1]

        async def client() -> None:
            while pending:
                place, ids = pending.pop()
                found[place] = await request(port, ids, args.length)

        await asyncio.gather(*(client() for _ in range(args.clients)))

    asyncio.run(run())
    return {
        "work": args.requests,
        "outputs": [found[i][0] for i in range(args.requests)],
        "first": [found[i][1] for i in range(args.requests)],
    }


def set_up_explainft(args: argparse.Namespace, name: str) -> Callable[[], Result]:
    from explainft.core import jax_setup

    jax_setup.configure()
    import dataclasses

    from explainft.checkpoints import convert
    from explainft.generation.quantization import DecodeConfig
    from explainft.serving.server import ServeConfig, open_service

    directory = str(Path(args.directory, "hf"))
    weights = dataclasses.replace(
        convert.open_weights(directory), vocabulary=Path(args.directory, "words.model"), extra_ids=0
    )
    config = ServeConfig(model_name=MODEL, max_input_tokens=128, max_output_tokens=128)
    service = open_service(directory, weights, DecodeConfig(DECODE_DTYPES[name]), config, None)
    service.engine.start()
    return functools.partial(send_all, args, listen(service.app()))


def set_up_hugging_face(args: argparse.Namespace) -> Callable[[], Result]:
    import torch
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from benchmarks import baselines
    from explainft.data.vocabulary import Vocabulary

    model = baselines.hugging_face(Path(args.directory, "hf"), args.cores)
    vocabulary = Vocabulary(Path(args.directory, "words.model"))
    lock = threading.Lock()

    def generate(ids: list[int], length: int) -> str:
        with lock, torch.inference_mode():
            [tokens] = model.generate(torch.tensor([ids]), max_new_tokens=length, do_sample=False, num_beams=1)
        return vocabulary.decode([token for token in tokens.tolist() if token > 1])

    async def completions(request: Request) -> Response:
        body = await request.json()
        text = await asyncio.to_thread(generate, body["prompt"], body["max_tokens"])
        event = f"data: {json.dumps({'choices': [{'index': 0, 'text': text}]})}\n\ndata: [DONE]\n\n"
        return Response(event, media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/completions", completions, methods=["POST"])])
    return functools.partial(send_all, args, listen(app))


def check(results: Results) -> list[str]:
    reference = results["explainft"][0]["outputs"]
    failures = []
    for repetition in results.get(BASELINE, []):
        equal = sum(a == b for a, b in zip(reference, repetition["outputs"], strict=True)) / len(reference)
        if equal < MIN_EQUAL:
            failures.append(f"{BASELINE}: only {equal:.0%} of the outputs are explainft's")
    return failures


def facts(results: Results, args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"clients": args.clients, "tokens of an output": args.length}
    for name, (_, *repetitions) in results.items():
        rates = [args.requests * args.length / repetition["seconds"] for repetition in repetitions]
        first = [seconds for repetition in repetitions for seconds in repetition["first"]]
        found[f"tokens/s, {name}"] = round(statistics.median(rates), 1)
        found[f"seconds to the first token, median, {name}"] = round(statistics.median(first), 3)
        found[f"seconds to the first token, 95%, {name}"] = round(statistics.quantiles(first, n=20)[-1], 3)
    return found


if __name__ == "__main__":
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--size", default="small", choices=("small", "tiny"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--length", type=int, default=64, help="tokens of an output")
    contenders = (
        *(Contender(name, functools.partial(set_up_explainft, name=name)) for name in DECODE_DTYPES),
        Contender(BASELINE, set_up_hugging_face, ("torch", "transformers")),
    )
    side_by_side.main(Row("request", contenders, prepare, check, facts), parser)
