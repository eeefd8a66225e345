"""on_host.sh: the life cycle of a run on a host, and its arguments."""

import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from tests.tpu_scripts.cloud import POD, RECIPE, write_program


def on_host(cloud, *words, expected=0, **settings):
    host = cloud.host(0)
    command = [str(host / "explainft/tpu_scripts/on_host.sh"), *words]
    environment = {**cloud.settings, "HOME": str(host), **settings}
    run = subprocess.run(command, env=environment, cwd=host, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == expected, run.stdout + run.stderr
    return run


def lines_of(cloud, i, name):
    """Of a file in host i's home folder, none where it is not there."""
    path = cloud.host(i) / name
    return path.read_text().splitlines() if path.exists() else []


def job(cloud, i=0):
    return on_host(cloud, "status", HOME=str(cloud.host(i))).stdout.strip()


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


FLAGS = "--implicit-dirs --rename-dir-limit=200000 --kernel-list-cache-ttl-secs=0 " + (
    "--metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0"
)
# At most a minute, should a test leave it behind.
LONG = (
    'trap "echo saved; exit 143" TERM; echo "at work"; for _ in {1..1200}; do read -r -t 0.05 <> <(:) || true; done\n'
)


def test_values_reach_the_program_unchanged(cloud):
    cloud.hosts(2)
    odd = 'it\'s "two" words; $(touch x) \\ & *'
    values = dict(
        MODEL_DIR=f"gs://b/{odd}",
        INITIAL_CHECKPOINT_PATH="gs://b/my checkpoint",
        TFDS_DATA_DIR=f"gs://data/{odd}",
        EXPLAINFT_CACHE_DIR=f"gs://cache/{odd}/",
        EXPLAINFT_T5_VOCAB="/my vocab/model",
    )
    flags = [f"--gin.TEXT={odd}", "--gin.TASK_FEATURE_LENGTHS={'inputs': 64}", ""]
    cloud.run("machine.sh", "run", RECIPE, *flags, **POD, **values)
    escaped = odd.replace("\\", "\\\\").replace('"', '\\"')
    for i in range(2):
        wait_for(lambda i=i: job(cloud, i) == "finished")
        words = (cloud.host(i) / "seen").read_text().split("\0")[:-1]
        assert (
            f"EXPLAINFT_CACHE_DIR=/mnt/explainft/cache/{odd}/" in words
            and "EXPLAINFT_T5_VOCAB=/my vocab/model" in words
        )
        assert words[words.index("train") :] == [
            "train",
            f"--gin_file={RECIPE}",
            f'--gin.MODEL_DIR="/mnt/explainft/b/{escaped}"',
            '--gin.INITIAL_CHECKPOINT_PATH="gs://b/my checkpoint"',
            f"--tfds_data_dir=gs://data/{odd}",
            *flags,
            "--multihost",
        ]
        assert lines_of(cloud, i, "mounts") == [
            f"gcsfuse {FLAGS} {name} /mnt/explainft/{name}" for name in ("b", "cache")
        ]


def test_output_directories_are_in_mounts(cloud):
    cloud.hosts(1)
    there = {
        "--gin.MODEL_DIR=gs://b": "--gin.MODEL_DIR=/mnt/explainft/b",
        "--gin.EVAL_OUTPUT_DIR='gs://e/1/2'": "--gin.EVAL_OUTPUT_DIR='/mnt/explainft/e/1/2'",
        '--gin.INFER_OUTPUT_DIR = "gs://i/x"': '--gin.INFER_OUTPUT_DIR = "/mnt/explainft/i/x"',
    }
    same = [
        "--gin.INITIAL_CHECKPOINT_PATH='gs://t5-data/c'",
        "--tfds_data_dir=gs://data",
        "--gin.MODEL_DIR=/tmp/gs://x",
    ]
    on_host(cloud, "start", "builtin", "train", *there, *same, EXPLAINFT_T5_VOCAB="gs://vocab/m")
    wait_for(lambda: job(cloud) == "finished")
    words = (cloud.host(0) / "seen").read_text().split("\0")[:-1]
    assert words[words.index("train") + 1 :] == [*there.values(), *same] and "EXPLAINFT_T5_VOCAB=gs://vocab/m" in words
    assert [line.split()[-1] for line in lines_of(cloud, 0, "mounts")] == [f"/mnt/explainft/{name}" for name in "bei"]


def test_t5x_gets_bucket_urls(cloud):
    cloud.hosts(1)
    write_program(
        cloud.host(0) / "explainft_env/bin/python", '#!/usr/bin/env bash\nprintf "%s\\n" "$@" >"$HOME/seen"\n'
    )
    on_host(cloud, "start", "t5x", "train", '--gin.MODEL_DIR="gs://b/run"', EXPLAINFT_CACHE_DIR="gs://b/cache")
    wait_for(lambda: job(cloud) == "finished")
    assert lines_of(cloud, 0, "seen")[1:] == ['--gin.MODEL_DIR="gs://b/run"']
    assert not lines_of(cloud, 0, "mounts") and not lines_of(cloud, 0, "as_root")


def test_buckets_are_mounted_once_per_boot(cloud):
    cloud.hosts(1)
    (cloud.host(0) / "locked").write_text("")  # as by the updates of a machine that was just made
    (cloud.programs / "gcsfuse").rename(cloud.folder / "gcsfuse")
    write_program(
        cloud.programs / "gcsfuse", "#!/usr/bin/env bash\necho --implicit-dirs --rename-dir-limit\n"
    )  # an old one
    sudo = (cloud.programs / "sudo").read_text()
    write_program(
        cloud.programs / "sudo", sudo + '[[ $* != *"--yes gcsfuse" ]] || cp "$STUB/gcsfuse" "$STUB/bin/gcsfuse"\n'
    )
    on_host(cloud, "mount", "b", "c")
    mount = [f"gcsfuse {FLAGS} {name} /mnt/explainft/{name}" for name in ("b", "c")]
    assert lines_of(cloud, 0, "mounts") == mount
    as_root = lines_of(cloud, 0, "as_root")
    owner = f"{os.getuid()}:{os.getgid()}"
    folders = [
        f"sudo {line}"
        for at in ("/mnt/explainft/b", "/mnt/explainft/c")
        for line in (f"umount --lazy {at}", f"mkdir -p {at}", f"chown {owner} {at}")
    ]
    key = "/usr/share/keyrings/cloud.google.asc"
    assert as_root[:3] == [
        f"sudo tee {key}",
        "key of -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg",
        "sudo tee /etc/apt/sources.list.d/gcsfuse.list",
    ]
    assert re.fullmatch(rf"deb \[signed-by={key}\] https://packages.cloud.google.com/apt gcsfuse-\w* main", as_root[3])
    assert as_root[4:6] == ["sudo apt-get -qq update"] * 2 and as_root[6].endswith(" install --yes gcsfuse")
    assert as_root[7:] == folders

    on_host(cloud, "mount", "b", "c")
    on_host(cloud, "start", "builtin", "train", "--gin.MODEL_DIR=gs://c/run")
    wait_for(lambda: job(cloud) == "finished")
    assert lines_of(cloud, 0, "mounts") == mount and lines_of(cloud, 0, "as_root") == as_root

    (cloud.host(0) / "mounted_c").unlink()
    on_host(cloud, "start", "builtin", "train", "--gin.MODEL_DIR=gs://c/run")
    wait_for(lambda: job(cloud) == "finished")
    assert lines_of(cloud, 0, "mounts") == [*mount, mount[1]]
    assert lines_of(cloud, 0, "as_root") == [*as_root, *folders[3:]]


def test_a_bucket_without_access(cloud):
    cloud.hosts(1)
    for words in (["mount", "forbidden"], ["start", "builtin", "train", "--gin.MODEL_DIR=gs://forbidden/run"]):
        error = on_host(cloud, *words, expected=2).stderr
        assert error.startswith(
            "on_host.sh: error: gs://forbidden cannot be mounted (403: no access); create it, or give "
        )
        assert error.count("\n") == 1 and not (cloud.host(0) / "seen").exists() and job(cloud) == "absent"
    (cloud.programs / "gcsfuse").unlink()
    (cloud.programs / "apt-get").unlink()
    assert "neither gcsfuse 3 nor apt-get" in on_host(cloud, "mount", "b", expected=2).stderr


def test_a_run_outlives_its_connection_and_is_exclusive(cloud):
    cloud.hosts(1)
    (cloud.host(0) / "job.sh").write_text(LONG)
    assert job(cloud) == "absent"
    command = [str(cloud.host(0) / "explainft/tpu_scripts/on_host.sh"), "start", "builtin", "train"]
    environment = {**cloud.settings, "HOME": str(cloud.host(0))}
    lines = f"{shlex.join(command)}; kill -HUP 0"  # as a connection that is lost
    subprocess.run(["bash", "-c", lines], env=environment, start_new_session=True, timeout=60, check=False)
    log = cloud.host(0) / "explainft_job/log"
    pids = cloud.host(0) / "explainft_job/pids"
    wait_for(lambda: pids.exists() and pids.stat().st_size and "at work" in log.read_text())
    assert job(cloud) == "running"
    assert "a run is in progress here" in on_host(cloud, "start", "builtin", "train", expected=2).stderr
    on_host(cloud, "stop")
    assert job(cloud) == "stopped" and "saved\n" in log.read_text() and "stopped, exit code 143" in log.read_text()


def test_how_a_run_ended(cloud):
    cloud.hosts(1)
    for lines, outcome in (
        ("", "finished"),
        ("exit 3\n", "failed 3"),
        ("kill -SEGV $$\n", "failed 139"),
        ("exit 143\n", "stopped"),
    ):
        (cloud.host(0) / "job.sh").write_text(lines)
        on_host(cloud, "start", "builtin", "train")
        wait_for(lambda outcome=outcome: job(cloud) == outcome)
    (cloud.host(0) / "job.sh").write_text(LONG)
    on_host(cloud, "start", "builtin", "train")
    log = cloud.host(0) / "explainft_job/log"
    pids = cloud.host(0) / "explainft_job/pids"
    wait_for(lambda: pids.exists() and pids.stat().st_size and "at work" in log.read_text())
    os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)
    assert job(cloud) == "running"  # the program itself is still at work, on the accelerator
    on_host(cloud, "stop")
    assert job(cloud) == "stopped"

    on_host(cloud, "start", "builtin", "train")
    wait_for(lambda: pids.exists() and pids.stat().st_size and log.read_text().count("at work") == 2)
    os.killpg(int(pids.read_text().split()[0]), signal.SIGKILL)  # as a host that goes down
    wait_for(lambda: job(cloud) == "stopped")


@pytest.mark.parametrize("engine", ["builtin", "t5x"])
def test_setup_on_a_host(cloud, engine):
    cloud.hosts(1)
    host = cloud.host(0)
    note = '#!/usr/bin/env bash\necho "${0##*/} $* ${ACCELERATOR-} ${T5X_DIR-}" >>"$HOME/notes"\n'
    for path in ("explainft_env/bin/explainft", "explainft_env/bin/python", ".local/bin/uv"):
        write_program(host / path, note)
    write_program(host / "explainft/tpu_scripts/setup_t5x.sh", note)
    write_program(cloud.programs / "python3", note)
    on_host(cloud, "setup", engine, "tpu", "3.11", "--config", "tiny", ACCELERATOR="v4-8")
    first, environment, packages, data = [line.strip() for line in (host / "notes").read_text().splitlines()]
    assert first.startswith("python3 -m pip install")
    assert environment.startswith(f"uv venv --quiet --seed --allow-existing --python 3.11 {host}/explainft_env")
    if engine == "builtin":
        assert packages.startswith("python -m pip install") and "-c constraints.txt -e . jax[tpu]" in packages
    else:
        assert packages == f"setup_t5x.sh  tpu {host}/t5x"
    assert data.startswith("explainft data build --config tiny")
    assert "no NVIDIA driver" in on_host(cloud, "setup", engine, "cuda12", "3.11", expected=2).stderr


def test_t5x_runs_its_own_program(cloud):
    cloud.hosts(1)
    python = cloud.host(0) / "explainft_env/bin/python"
    write_program(python, '#!/usr/bin/env bash\necho "asked for $*"\n')
    on_host(cloud, "start", "t5x", "eval", "--gin_file=x")
    wait_for(lambda: job(cloud) == "finished")
    lines = on_host(cloud, "watch").stdout.splitlines()
    assert f"asked for {cloud.host(0)}/t5x/t5x/eval.py --gin_file=x" in lines and lines[-1] == "finished"
