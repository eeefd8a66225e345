"""Which kernels and precision a mesh trains with."""

import dataclasses

import jax
import numpy as np

from explainft.model.execution import ExecutionConfig
from explainft.parallel.sharding import resolve_execution
from tests.model.t5_test import SMALL


class Tpu:
    platform = "tpu"
    device_kind = "TPU v4"


class Gpu:
    platform = "gpu"
    device_kind = "NVIDIA H100 80GB HBM3"
    compute_capability = "9.0"


def mesh(device):
    return jax.sharding.Mesh(np.array([[device]]), ("data", "model"))


def resolved(config, mesh, lengths):
    return resolve_execution(ExecutionConfig(), config, mesh, lengths)


def test_one_cpu_uses_per_head_attention_for_long_rows():
    cpu, tpu = mesh(jax.devices("cpu")[0]), mesh(Tpu())
    assert resolved(SMALL, cpu, (128, 512)).attention_kernel == "per_head"
    assert resolved(SMALL, cpu, (128, 256)).attention_kernel == "plain"
    assert resolved(SMALL, tpu, (512, 512)).attention_kernel == "plain"


def test_gpu_uses_cudnn_attention_for_bfloat16():
    gpu = mesh(Gpu())
    bfloat16 = dataclasses.replace(SMALL, dtype="bfloat16")
    assert resolved(bfloat16, gpu, (512, 512)).attention_kernel == "cudnn"
    assert resolved(SMALL, gpu, (512, 512)).attention_kernel == "plain"
    assert resolved(bfloat16, gpu, (512, 511)).attention_kernel == "plain"
    assert resolved(dataclasses.replace(bfloat16, head_dim=4), gpu, (512, 512)).attention_kernel == "plain"


def test_one_cpu_uses_bfloat16_matmuls_for_bfloat16():
    cpu, tpu = mesh(jax.devices("cpu")[0]), mesh(Tpu())
    bfloat16 = dataclasses.replace(SMALL, dtype="bfloat16")
    assert resolved(bfloat16, cpu, (8, 8)).matmul_precision == "bfloat16"
    assert resolved(bfloat16, tpu, (8, 8)) == ExecutionConfig()
    assert resolved(SMALL, cpu, (8, 8)) == ExecutionConfig()
