#!/usr/bin/env bash
# What machine.sh runs on each host, in ~/explainft, from a copy of this repository.
#
#   on_host.sh mount BUCKET...   # each at /mnt/explainft/BUCKET; installs gcsfuse where it is missing
#   on_host.sh setup ENGINE JAX_EXTRA PYTHON_VERSION [DATA_FLAG...]   # an environment in ~/explainft_env, and the data
#   on_host.sh start ENGINE PROGRAM FLAG...   # in the background, detached from the connection
#                                             # builtin: gs://BUCKET is mounted and replaced by /mnt/explainft/BUCKET
#   on_host.sh status | watch | stop          # status: absent, running, finished, "failed CODE" or stopped
set -euo pipefail

environment=${HOME}/explainft_env
mounts=/mnt/explainft
# Hosts see each other's files at once: no metadata is cached, by default for a minute and, on large machines, forever.
# Orbax commits a checkpoint by renaming its directory. In a bucket with a hierarchical namespace
# (gcloud storage buckets create --enable-hierarchical-namespace --uniform-bucket-level-access) that is atomic. In any
# other bucket each file is copied; if the host goes away meanwhile, the engine skips the checkpoint as corrupt.
gcsfuse_flags=(--implicit-dirs --rename-dir-limit=200000 --kernel-list-cache-ttl-secs=0
    --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0)
job=${HOME}/explainft_job # lock: held while the job runs; result: how it ended by itself; log; pids
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'on_host.sh: error: %s\n' "$1" >&2
    exit 2
}

mount() { # BUCKET...: for this user; mounted buckets stay mounted
    local bucket at log=${HOME}/explainft_mount.log
    for bucket in "$@"; do
        at=${mounts}/${bucket}
        ! mountpoint -q "${at}" || continue
        install_gcsfuse
        sudo umount --lazy "${at}" 2>/dev/null || true # a gcsfuse that died leaves a broken mount
        sudo mkdir -p "${at}"
        sudo chown "$(id -u):$(id -g)" "${at}"
        gcsfuse "${gcsfuse_flags[@]}" "${bucket}" "${at}" >"${log}" 2>&1 </dev/null ||
            fail "gs://${bucket} cannot be mounted ($(tail -n 1 "${log}")); create it, or give the service account access"
    done
}

install_gcsfuse() { # from Google's packages, unless the installed one supports the flags
    [[ $(gcsfuse --help 2>&1 || true) != *metadata-cache-negative-ttl-secs* ]] || return 0
    local packages=https://packages.cloud.google.com/apt key=/usr/share/keyrings/cloud.google.asc line tries=1
    command -v apt-get >/dev/null || fail "neither gcsfuse 3 nor apt-get is installed; choose an image of Debian or Ubuntu"
    line="deb [signed-by=${key}] ${packages} gcsfuse-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release) main"
    curl -fsSL "${packages}/doc/apt-key.gpg" | sudo tee "${key}" >/dev/null
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null <<<"${line}"
    until sudo apt-get -qq update; do # a new machine's own updates hold the lock for minutes
        ((tries++ < 30)) || fail "cannot read the list of packages; run apt-get update on the host"
        sleep 10
    done
    sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes gcsfuse >/dev/null
}

use_mounts() { # for start: mounts the buckets of its flags and of the cache, and replaces their names by the mounts
    local i buckets=()
    local in_bucket='^(--gin\.(MODEL_DIR|EVAL_OUTPUT_DIR|INFER_OUTPUT_DIR) *= *["'\'']?)gs://([^/"'\'']+)(.*)$'
    for i in "${!words[@]}"; do
        if [[ ${words[i]} =~ ${in_bucket} ]]; then
            buckets+=("${BASH_REMATCH[3]}")
            words[i]=${BASH_REMATCH[1]}${mounts}/${BASH_REMATCH[3]}${BASH_REMATCH[4]}
        fi
    done
    if [[ ${EXPLAINFT_CACHE_DIR:-} =~ ^gs://([^/]+)(.*)$ ]]; then
        buckets+=("${BASH_REMATCH[1]}")
        export EXPLAINFT_CACHE_DIR=${mounts}/${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    fi
    mount ${buckets[@]+"${buckets[@]}"}
}

setup() {
    local engine=$1 extra=$2 version=$3 python=${environment}/bin/python
    shift 3
    # TPU VMs have Python 3.10, which is too old; uv installs another one and leaves the system's alone.
    # The variable is for images whose Python is externally managed; an older pip ignores it.
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
    "${HOME}/.local/bin/uv" venv --quiet --seed --allow-existing --python "${version}" "${environment}"
    if [[ ${engine} == t5x ]]; then
        ACCELERATOR=${extra} PYTHON=${python} T5X_DIR=${HOME}/t5x tpu_scripts/setup_t5x.sh
    else
        "${python}" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . "jax[${extra}]"
    fi
    [[ ${extra} == tpu ]] || nvidia-smi -L || fail "no NVIDIA driver; choose an IMAGE_FAMILY that has one"
    [[ $# == 0 ]] || "${environment}/bin/explainft" data build "$@"
}

status() {
    if [[ ! -e ${job}/lock ]]; then
        echo absent
    elif ! flock --nonblock "${job}/lock" true; then
        echo running
    elif [[ -e ${job}/result ]]; then
        cat "${job}/result"
    else
        echo stopped # by SIGTERM, or with the host
    fi
}

start() {
    local words=("$@")
    [[ $1 != builtin ]] || use_mounts # before the lock, which gcsfuse would inherit and never release
    mkdir -p "${job}"
    # The job inherits the lock; the kernel releases it when its last process ends, for whatever reason.
    exec 9>"${job}/lock"
    flock --nonblock 9 || fail "a run is in progress here; watch or stop it first"
    rm -f "${job}/result" "${job}/pids"
    trap '' HUP # the job inherits this too
    setsid tpu_scripts/on_host.sh supervise "${words[@]}" >>"${job}/log" 2>&1 </dev/null &
}

supervise() {
    local engine=$1 program=$2 code=0 stopped=""
    local command=("${environment}/bin/explainft" "${program}")
    [[ ${engine} == builtin ]] || command=("${environment}/bin/python" "${HOME}/t5x/t5x/${program}.py")
    shift 2
    # A preempted run of the built-in engine exits with 128 + the signal; one of T5X may exit with 0, so this shell
    # records SIGTERM. stop below, or a host that shuts down, sends it to this shell and to the program.
    trap 'stopped=1' TERM # runs once the program has ended
    date '+==== %F %T %Z: start'
    (
        echo "$$ ${BASHPID}" >"${job}/pids"
        exec "${command[@]}" "$@"
    ) || code=$?
    [[ ${engine} != builtin || ! ${code} =~ ^(129|130|143)$ ]] || stopped=1
    date "+==== %F %T %Z: ${stopped:+stopped, }exit code ${code}"
    if [[ -z ${stopped} ]]; then
        if [[ ${code} == 0 ]]; then echo finished; else echo "failed ${code}"; fi >"${job}/result"
    fi
}

watch() {
    local supervisor
    [[ -s ${job}/pids ]] || fail "no run has been started here"
    read -r supervisor _ <"${job}/pids"
    tail -n 100 -F --pid="${supervisor}" "${job}/log"
    status
}

stop() {
    [[ $(status) == running ]] || return 0
    local supervisor program
    [[ -s ${job}/pids ]] || fail "the run is still starting; try again in a second"
    read -r supervisor program <"${job}/pids"
    kill -TERM "${supervisor}" "${program}" 2>/dev/null || true # one of them may be gone
    flock --timeout 300 "${job}/lock" true || fail "the run did not end within 300 s of SIGTERM"
}

case ${1:-} in
    mount | setup | status | start | supervise | watch | stop) "$@" ;;
    *) fail "${1:-nothing} is not a command; use setup, start, status, watch or stop" ;;
esac
