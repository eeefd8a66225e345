"""machine.sh: the gcloud commands it runs, and errors of users."""

import re
import shutil
import subprocess

import pytest

from tests.tpu_scripts.cloud import AT, GPU, POD, QUEUED, RECIPE, ROOT, SCRIPTS, write_program

START = "explainft/tpu_scripts/on_host.sh start"


def start_line(engine="builtin", flags=""):
    """As it stands in gcloud's --command, quoted for the host's bash."""
    return f'env {START} {engine} train --gin_file={RECIPE} --gin.MODEL_DIR=\\"gs://b/run\\"{flags}'


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({}, f"tpus tpu-vm create tpu {AT} --accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite"),
        (
            dict(ACCELERATOR="v4-8", SPOT="1", SERVICE_ACCOUNT="me@p", CREATE_FLAGS="--network=n --labels=a=b"),
            f"tpus tpu-vm create tpu {AT} --accelerator-type=v4-8 --version=tpu-ubuntu2204-base --spot "
            "--service-account=me@p --network=n --labels=a=b",
        ),
        (
            dict(ACCELERATOR="v6e-8", VERSION="v2-alpha-tpuv6e-2"),
            f"tpus tpu-vm create tpu {AT} --accelerator-type=v6e-8 --version=v2-alpha-tpuv6e-2",
        ),
        (
            dict(GPU, SPOT="1", HOSTS="2"),
            f"instances create gpu-0 gpu-1 {AT} --machine-type=a2-highgpu-8g "
            "--image-family=common-cu129-ubuntu-2204-nvidia-580 --image-project=deeplearning-platform-release "
            "--boot-disk-size=200GB --maintenance-policy=TERMINATE --metadata=install-nvidia-driver=True "
            "--scopes=cloud-platform --provisioning-model=SPOT --instance-termination-action=STOP",
        ),
    ],
)
def test_create(cloud, settings, command):
    assert cloud.machine("create", **settings) == [command]


QUEUE_CREATE = (
    f"tpus queued-resources create tpu {AT} --node-id=tpu --accelerator-type=v5p-16 --runtime-version=v2-alpha-tpuv5 "
    "--spot"
)
QUEUE_LOOK = f"tpus queued-resources describe tpu {AT} --format=value(state.state)"
LOOK = f"tpus tpu-vm describe tpu {AT} --format=value(state)"


def test_create_waits_in_the_queue(cloud):
    cloud.answers(queue=["ACCEPTED", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE"], states=["CREATING", "READY"])
    calls = cloud.machine("create", **QUEUED, ACCELERATOR="v5p-16", POLL="7")
    waits = [QUEUE_LOOK, "sleep 7"] * 2 + [QUEUE_LOOK, LOOK, "sleep 7", QUEUE_LOOK, LOOK]
    assert calls == [QUEUE_CREATE, *waits]

    cloud.answers(queue=["FAILED"])
    run = cloud.run("machine.sh", "create", **QUEUED, ACCELERATOR="v5p-16", expected=2)
    message = "machine.sh: error: ACCELERATOR=v5p-16: the queue answered FAILED; delete tpu, then create it again\n"
    assert run.stderr == message


UNPACK = "rm -rf explainft && mkdir explainft && tar -xzf explainft.tar.gz -C explainft && "
MOUNT = "explainft/tpu_scripts/on_host.sh mount b && "


@pytest.mark.parametrize(
    ("settings", "setup"),
    [
        ({}, MOUNT + "builtin tpu 3.11 --config listops30"),
        (
            dict(MODEL_DIR="gs://a.b-c/run/1/", EXPLAINFT_CACHE_DIR="gs://cache", TFDS_DATA_DIR="gs://data"),
            MOUNT.replace(" b ", " a.b-c cache ") + "builtin tpu 3.11",
        ),
        (dict(EXPLAINFT_CACHE_DIR="gs://b/cache"), MOUNT + "builtin tpu 3.11 --config listops30"),
        (dict(MODEL_DIR="/tmp/run", EXPLAINFT_T5_VOCAB="gs://v/m"), "builtin tpu 3.11 --config listops30"),
        (
            dict(TFDS_DATA_DIR="/my data", DATA_CONFIG="tiny"),
            MOUNT + r"builtin tpu 3.11 --config tiny --tfds_data_dir /my\ data",
        ),
        (dict(TFDS_DATA_DIR="gs://b/data", ENGINE="t5x", PYTHON_VERSION="3.12"), "t5x tpu 3.12"),
    ],
)
def test_setup(cloud, settings, setup):
    mount, _, rest = setup.rpartition(" && ")
    setup = f"{mount and mount + ' && '}explainft/tpu_scripts/on_host.sh setup {rest}"
    assert cloud.machine("setup", **settings) == [
        f"tpus tpu-vm ssh tpu {AT} --worker=all --command=true",
        f"tpus tpu-vm scp ARCHIVE tpu:explainft.tar.gz {AT} --worker=all",
        f"tpus tpu-vm ssh tpu {AT} --worker=all --command={UNPACK}{setup}",
    ]


def test_setup_of_gpu_hosts(cloud):
    calls = cloud.machine("setup", **GPU, HOSTS="2", CUDA="cuda13", SSH_FLAGS="--internal-ip")
    line = f"--command={UNPACK}{MOUNT}explainft/tpu_scripts/on_host.sh setup builtin cuda13 3.11 --config listops30"
    hosts = ("gpu-0", "gpu-1")
    assert calls == [
        *(f"ssh {host} {AT} --internal-ip --command=true" for host in hosts),
        *(f"scp ARCHIVE {host}:explainft.tar.gz {AT} --internal-ip" for host in hosts),
        *(f"ssh {host} {AT} --internal-ip {line}" for host in hosts),
    ]


def test_hosts_get_the_commit_and_uncommitted_changes_are_reported(cloud):
    cloud.hosts(2)
    for i in range(2):
        write_program(cloud.host(i) / "explainft/stale.py", "")
    write_program(cloud.checkout / "tpu_scripts/on_host.sh", '#!/usr/bin/env bash\necho "setup: $*"\n')
    cloud.git("commit", "--quiet", "--all", "--message=a setup that is quick")
    (cloud.checkout / "mine.py").write_text("")
    run = cloud.run("machine.sh", "setup", **POD)
    assert run.stdout == "setup: mount b\nsetup: setup builtin tpu 3.11 --config listops30\n" * 2
    assert run.stderr == "machine.sh: warning: uncommitted changes are not copied; the hosts get HEAD\n"
    for i in range(2):
        there = sorted(str(path.relative_to(cloud.host(i))) for path in (cloud.host(i) / "explainft").iterdir())
        assert there == ["explainft/gin", "explainft/tpu_scripts"]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, [f"tpus tpu-vm ssh tpu {AT} --worker=all --command={start_line()}"]),
        (POD, [f"tpus tpu-vm ssh tpu {AT} --worker=all --command={start_line(flags=' --multihost')}"]),
        (
            dict(POD, ENGINE="t5x"),
            [f"tpus tpu-vm ssh tpu {AT} --worker=all --command={start_line('t5x', ' --multiprocess_gpu')}"],
        ),
        (GPU, [f"ssh gpu {AT} --command={start_line()}"]),
        *(
            (
                dict(GPU, HOSTS="2", ENGINE=engine),
                [
                    f"ssh gpu-{i} {AT} --command="
                    + start_line(
                        engine, f" {flag} --coordinator_address=gpu-0:8476 --process_count=2 --process_index={i}"
                    )
                    for i in range(2)
                ],
            )
            for engine, flag in (("builtin", "--multihost"), ("t5x", "--multiprocess_gpu"))
        ),
    ],
)
def test_run(cloud, settings, lines):
    assert cloud.machine("run", RECIPE, **settings) == lines


def test_watch_stop_fetch_and_delete(cloud):
    host = "explainft/tpu_scripts/on_host.sh"
    assert cloud.machine("watch", **POD) == [f"tpus tpu-vm ssh tpu {AT} --worker=0 --command={host} watch"]
    assert cloud.machine("watch", **GPU, HOSTS="2") == [f"ssh gpu-0 {AT} --command={host} watch"]
    (stop,) = cloud.machine("stop", **POD)
    assert stop.startswith(f"tpus tpu-vm ssh tpu {AT} --worker=all") and stop.endswith(f"then {host} stop; fi")
    for settings, command in (
        ({}, f"tpus tpu-vm delete tpu {AT} --quiet"),
        (QUEUED, f"tpus queued-resources delete tpu {AT} --force --quiet"),
        (dict(GPU, HOSTS="2"), f"instances delete gpu-0 gpu-1 {AT} --quiet"),
    ):
        assert cloud.machine("delete", **settings) == [command]

    without = "--exclude=(.*/)?(checkpoints/|checkpoint_[0-9]).*"
    bucket = f"gcloud storage rsync --recursive {without} gs://b/run"
    assert cloud.machine("fetch", NAME=None, MODEL_DIR="gs://b/run/") == [f"{bucket} runs/run"]
    assert cloud.machine("fetch", DESTINATION="my/results") == [f"{bucket} my/results"]
    assert (cloud.folder / "my/results").is_dir()
    pattern = re.compile(without.removeprefix("--exclude="))
    for path, excluded in {
        "checkpoints/checkpoint_20/params/x": True,  # built in
        "checkpoint_1000/state/x": True,  # T5X
        "metrics.jsonl": False,
        "inference_eval/checkpoint-metrics.jsonl": False,
    }.items():
        assert bool(pattern.match(path)) == excluded
    local = dict(MODEL_DIR="/tmp/run", DESTINATION="d")
    assert cloud.machine("fetch", **local) == [f"tpus tpu-vm scp --recurse tpu:/tmp/run d {AT} --worker=0"]
    assert cloud.machine("fetch", **local, **GPU) == [f"scp --recurse gpu:/tmp/run d {AT}"]


@pytest.mark.parametrize("settings", [{}, QUEUED, dict(GPU, HOSTS="2"), dict(POD, ENGINE="t5x")])
def test_a_dry_run_prints_commands_and_runs_none(cloud, settings):
    for words in (["create"], ["setup"], ["run", RECIPE, "--gin.X=a b"], ["watch"], ["stop"], ["fetch"], ["delete"]):
        cloud.answers(queue=["ACTIVE"], states=["READY"])
        asked = cloud.machine(*words, **settings)
        shutil.rmtree(cloud.folder / "runs", ignore_errors=True)
        printed = cloud.run("machine.sh", *words, **settings, DRY_RUN="1").stdout
        assert not cloud.calls() and not (cloud.folder / "runs").exists()
        (cloud.folder / "calls").write_text(printed)
        assert [call for call in cloud.calls() if not call.startswith(("git ", "mkdir "))] == asked
    printed = cloud.run("keep_running.sh", RECIPE, **settings, DRY_RUN="1").stdout
    assert not cloud.calls()
    assert " create " in printed.splitlines()[0] and "on_host.sh\\ start" in printed.splitlines()[-1]


def test_evaluation_recipes(cloud):
    recipe = "gin/eval_small.gin"
    words = f'eval --gin_file={recipe} --gin.EVAL_OUTPUT_DIR=\\"gs://b/run\\"'
    (line,) = cloud.machine("run", recipe, INITIAL_CHECKPOINT_PATH="gs://b/c")
    assert line.endswith(f"builtin {words}")
    (line,) = cloud.machine("run", recipe, **POD)
    assert line.endswith(f"builtin {words} --multihost")
    (line,) = cloud.machine("run", recipe, ENGINE="t5x")
    assert line.endswith(f"t5x {words}")
    lines = cloud.machine("run", recipe, **GPU, HOSTS="2")
    assert [line.endswith(f" --process_index={i}") for i, line in enumerate(lines)] == [True] * 2


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        ("", {}, "'' is not a command; use create, setup, run, watch, stop, fetch, delete, state or job"),
        ("create", dict(NAME=""), "NAME is not set; export NAME=... or write it into tpu_scripts/config.sh"),
        ("setup", dict(ZONE=None), "ZONE is not set; export ZONE=... or write it into tpu_scripts/config.sh"),
        ("watch", dict(PROJECT=""), "PROJECT is not set; export PROJECT=... or write it into tpu_scripts/config.sh"),
        (
            "delete",
            dict(ACCELERATOR=""),
            "ACCELERATOR is not set; export ACCELERATOR=... or write it into tpu_scripts/",
        ),
        ("create", dict(ACCELERATOR="v5e-16"), "ACCELERATOR=v5e-16 is called otherwise in gcloud; use v5litepod-16"),
        ("create", dict(ACCELERATOR="v4"), "ACCELERATOR=v4 is not a TPU type; give one like v4-8 or v5litepod-16"),
        ("create", dict(ACCELERATOR="v9-8"), "ACCELERATOR=v9-8 is unknown; set VERSION to its runtime version"),
        ("create", dict(SPOT="yes"), "SPOT=yes must be 0 or 1"),
        ("create", dict(KIND="cpu"), "KIND=cpu is unknown; use tpu or gpu"),
        ("create", dict(GPU, QUEUED="1"), "QUEUED=1 is for TPUs alone; unset it, or use KIND=tpu"),
        ("create", dict(HOSTS="2"), "HOSTS=2 is for KIND=gpu; a TPU's ACCELERATOR determines its hosts"),
        ("create", dict(GPU, HOSTS="two"), "HOSTS=two must be a positive integer"),
        ("setup", dict(ENGINE="t5"), "ENGINE=t5 is unknown; use builtin or t5x"),
        ("setup", dict(CUDA="12"), "CUDA=12 is unknown; use cuda12 or cuda13"),
        ("setup", dict(PYTHON_VERSION="3.10"), "PYTHON_VERSION=3.10 is not supported; use 3.11 or 3.12"),
        ("run", {}, "RECIPE= is not a recipe; give a file like gin/medium_small.gin"),
        ("run gin/no.gin", {}, "RECIPE=gin/no.gin is not in {root}; give a path from there, like gin/medium_small.gin"),
        (f"run {RECIPE}", dict(MODEL_DIR=""), "MODEL_DIR is not set; give the run's directory, like gs://BUCKET/RUN"),
        (
            f"run {RECIPE}",
            dict(MODEL_DIR="run"),
            "MODEL_DIR=run is not a path on a host; give gs://bucket/path (lower case) or an ",
        ),
        (f"run {RECIPE}", dict(EXPLAINFT_T5_VOCAB="~/m"), "EXPLAINFT_T5_VOCAB=~/m is not a path on a host; give gs://"),
        (
            f"run {RECIPE}",
            dict(POD, MODEL_DIR="/tmp/run"),
            "MODEL_DIR=/tmp/run is on one host's disk and there are several hosts; give a gs:// path",
        ),
        (
            "run gin/eval_small.gin",
            dict(POD, ENGINE="t5x"),
            "RECIPE=gin/eval_small.gin evaluates or infers, which ENGINE=t5x does on one host only; use",
        ),
        ("setup", dict(MODEL_DIR="gs://My_Bucket/run"), "MODEL_DIR=gs://My_Bucket/run is not a path on a host; give "),
        (
            "setup",
            dict(MODEL_DIR="gs://b//run"),
            "MODEL_DIR=gs://b//run is not a path on a host; give gs://bucket/path",
        ),
        (
            "setup",
            dict(EXPLAINFT_CACHE_DIR="gs:///c"),
            "EXPLAINFT_CACHE_DIR=gs:///c is not a path on a host; give gs:/",
        ),
        ("fetch", dict(MODEL_DIR=""), "MODEL_DIR is not set; give the run's directory"),
    ],
)
def test_user_errors(cloud, words, settings, message):
    run = cloud.run("machine.sh", *words.split(), **settings, expected=2)
    assert run.stderr.startswith("machine.sh: error: " + message.format(root=cloud.checkout))
    assert run.stderr.count("\n") == 1 and not run.stdout and not cloud.calls()


def test_without_gcloud(cloud):
    (cloud.programs / "gcloud").unlink()
    run = cloud.run("machine.sh", "create", expected=2)
    assert run.stderr == "machine.sh: error: gcloud is missing; install the Google Cloud CLI\n"
    assert cloud.run("machine.sh", "create", DRY_RUN="1").stdout.startswith("gcloud compute tpus tpu-vm create tpu ")


def test_every_setting_has_a_line_in_the_config():
    names = set(re.findall(r'^: "\$\{([A-Z0-9_]+):=', (ROOT / "tpu_scripts/config.sh").read_text(), re.MULTILINE))
    used = {
        name
        for script in ("machine.sh", "keep_running.sh")
        for name in re.findall(r"\$\{([A-Z][A-Z0-9_]+)\b", (ROOT / "tpu_scripts" / script).read_text())
    }
    assert used - names == {"DRY_RUN", "BASH_SOURCE"} and names <= used | {"DISK_GB"}


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    files = [str(ROOT / "tpu_scripts" / name) for name in SCRIPTS]
    run = subprocess.run(["shellcheck", "-x", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
