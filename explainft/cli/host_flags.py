"""The flags of commands that run as several processes, one a host."""

import argparse
import contextlib

from explainft.cli.flags import positive_integer
from explainft.core.errors import UserError


def add_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--multihost", "--multiprocess_gpu", action="store_true", help="this is one of several processes, one a host"
    )
    parser.add_argument(
        "--coordinator_address", help="HOST:PORT of process 0; default: from the TPU pod, SLURM or Open MPI"
    )
    parser.add_argument("--process_count", type=positive_integer)
    parser.add_argument("--process_index", type=int)


def connect_hosts(args: argparse.Namespace, *, preemptible: bool = False) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which the processes are connected; without --multihost it does nothing."""
    addresses = [args.coordinator_address, args.process_count, args.process_index]
    if not args.multihost:
        if addresses != [None] * 3:
            raise UserError("--coordinator_address, --process_count and --process_index need --multihost")
        return contextlib.nullcontext()
    from explainft.parallel import hosts

    return hosts.connected(*addresses, preemptible=preemptible)
