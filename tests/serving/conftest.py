"""One server of the shipped model for all tests of a file: its engine, and what listens in a thread."""

import threading
import time

import openai
import pytest
import uvicorn

from explainft.checkpoints import run_checkpoint
from explainft.evaluation.infer import PRETRAINED, infer
from explainft.generation.quantization import DecodeConfig
from explainft.serving.server import ServeConfig, bind, open_service
from tests.serving.requests import EXPRESSIONS

CONFIG = ServeConfig(rows=16, max_input_tokens=32, max_output_tokens=64, max_queued=64, max_body=20_000)


@pytest.fixture(scope="session")
def service():
    weights = run_checkpoint.open_run(PRETRAINED)
    service = open_service(str(PRETRAINED), weights, DecodeConfig(), CONFIG, None)
    service.engine.start()
    yield service
    service.engine.close()


@pytest.fixture(scope="session")
def address(service):
    """Listens in a thread; returns the base URL."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(service.app(), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def client(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def greedy_texts():
    """What `explainft infer` answers."""
    return {one.input.text: one.output.text for one in infer(PRETRAINED, EXPRESSIONS)}
