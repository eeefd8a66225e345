"""`explainft serve`: an OpenAI-compatible server of a run or a checkpoint."""

import argparse
import importlib.util

from explainft.cli.flags import add_command, add_step, positive_integer
from explainft.core import jax_setup
from explainft.core.errors import UserError

EXAMPLE = "explainft serve runs/medium --port 8000"
PACKAGES = ("starlette", "uvicorn")  # of the extra serve


def add_parser(subparsers) -> None:
    help = "Serve a run or a checkpoint to OpenAI clients."
    parser = add_command(subparsers, "serve", run, help, EXAMPLE)
    parser.add_argument("run", help="the MODEL_DIR of a run, or a checkpoint with its vocabulary")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; another one needs EXPLAINFT_API_KEY")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any free one")
    parser.add_argument("--model_name", help="the model's name in requests; default: that of its directory")
    parser.add_argument("--batch_size", type=positive_integer, default=32, help="outputs at a time; default: 32")
    parser.add_argument("--max_input_tokens", type=positive_integer, help="default: as trained, and at least 512")
    parser.add_argument("--max_output_tokens", type=positive_integer, help="default: as trained, and at least 256")
    parser.add_argument("--max_queued", type=positive_integer, default=256, help="outputs that may wait; default: 256")
    parser.add_argument("--max_body", type=positive_integer, default=2**20, help="bytes of a request; default: 1 MiB")
    parser.add_argument("--decode_dtype", choices=("float32", "bfloat16", "int8"), help="int8 is the fastest on a CPU")
    add_step(parser)


def run(args: argparse.Namespace) -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"serve needs {' and '.join(missing)}; pip install 'explainft[serve]'")
    jax_setup.configure()
    from explainft.generation.quantization import DecodeConfig
    from explainft.serving.server import ServeConfig, serve

    config = ServeConfig(
        host=args.host,
        port=args.port,
        model_name=args.model_name,
        max_input_tokens=args.max_input_tokens,
        max_output_tokens=args.max_output_tokens,
        rows=args.batch_size,
        max_queued=args.max_queued,
        max_body=args.max_body,
    )
    serve(args.run, args.step, DecodeConfig(args.decode_dtype or "float32"), config)
