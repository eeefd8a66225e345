#!/usr/bin/env bash
# TPU VMs, TPU pods and GPU hosts of Google Cloud. Settings: config.sh, or environment variables.
#
#   machine.sh create                 # SPOT=1: a spot machine; QUEUED=1: wait in the queue for a TPU
#   machine.sh setup                  # this repository, an environment and the data, on every host
#   machine.sh run RECIPE [FLAG...]   # on every host, in the background; the flags are explainft's or T5X's
#   machine.sh watch                  # the first host's log until the run ends; Ctrl-C leaves the run alone
#   machine.sh stop                   # SIGTERM on every host
#   machine.sh fetch                  # MODEL_DIR without its checkpoints from a bucket, or all of it from the host
#   machine.sh delete
#   machine.sh state                  # READY, another state of the cloud's, MISSING or UNKNOWN
#   machine.sh job                    # absent, running, finished, stopped, "failed CODE" or unreachable
#
# DRY_RUN=1 prints the commands and runs none of them. An error of the user is one line, with exit code 2.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tpu_scripts/config.sh
source "${root}/tpu_scripts/config.sh"
DRY_RUN=${DRY_RUN:-0}
exec 3>&1 # where a dry run prints, also from inside $(...)

fail() {
    printf 'machine.sh: error: %s\n' "$1" >&2
    exit 2
}

quote() { # the words, quoted for bash
    local line
    printf -v line ' %q' "$@"
    printf '%s' "${line:1}"
}

call() {
    if [[ ${DRY_RUN} == 1 ]]; then
        printf '%s\n' "$(quote "$@")" >&3
    else
        "$@"
    fi
}

# ---- settings

check_settings() {
    local name path='^(|/.*|gs://[a-z0-9][a-z0-9._-]*(/[^/]+)*/?)$'
    for name in DRY_RUN SPOT QUEUED; do
        [[ ${!name} == [01] ]] || fail "${name}=${!name} must be 0 or 1"
    done
    for name in HOSTS DISK_GB POLL; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "${name}=${!name} must be a positive integer"
    done
    for name in MODEL_DIR TFDS_DATA_DIR EXPLAINFT_CACHE_DIR EXPLAINFT_T5_VOCAB INITIAL_CHECKPOINT_PATH; do
        [[ ${!name} =~ ${path} ]] ||
            fail "${name}=${!name} is not a path on a host; give gs://bucket/path (lower case) or an absolute path there"
    done
    [[ ${ENGINE} == builtin || ${ENGINE} == t5x ]] || fail "ENGINE=${ENGINE} is unknown; use builtin or t5x"
    [[ ${PYTHON_VERSION} == 3.11 || ${PYTHON_VERSION} == 3.12 ]] ||
        fail "PYTHON_VERSION=${PYTHON_VERSION} is not supported; use 3.11 or 3.12"
    [[ ${CUDA} == cuda12 || ${CUDA} == cuda13 ]] || fail "CUDA=${CUDA} is unknown; use cuda12 or cuda13"
    [[ ${KIND} == tpu || ${KIND} == gpu ]] || fail "KIND=${KIND} is unknown; use tpu or gpu"
    [[ ${KIND} == tpu || ${QUEUED} == 0 ]] || fail "QUEUED=1 is for TPUs alone; unset it, or use KIND=tpu"
    [[ ${KIND} == gpu || ${HOSTS} == 1 ]] || fail "HOSTS=${HOSTS} is for KIND=gpu; a TPU's ACCELERATOR determines its hosts"
    [[ ${DRY_RUN} == 1 ]] || command -v gcloud >/dev/null || fail "gcloud is missing; install the Google Cloud CLI"
}

check_machine() { # sets at and ssh_at, flags of every command; names, one for each GPU host; several, 0 or 1
    local name i flags
    for name in NAME PROJECT ZONE ACCELERATOR; do
        [[ -n ${!name} ]] || fail "${name} is not set; export ${name}=... or write it into tpu_scripts/config.sh"
    done
    at=("--project=${PROJECT}" "--zone=${ZONE}")
    read -r -a flags <<<"${SSH_FLAGS}"
    ssh_at=("${at[@]}" ${flags[@]+"${flags[@]}"})
    names=("${NAME}")
    several=0
    if [[ ${KIND} == tpu ]]; then
        check_accelerator
        # One host has up to 8 of what the type counts: cores of v2 to v4 and v5p, chips of v5e and v6e.
        ((10#${ACCELERATOR##*-} <= 8)) || several=1
    elif ((HOSTS > 1)); then
        several=1
        names=()
        for ((i = 0; i < HOSTS; i++)); do names+=("${NAME}-${i}"); done
    fi
}

check_accelerator() { # and fill in VERSION, as cloud.google.com/tpu/docs/runtimes has it
    case ${ACCELERATOR} in
        v5e-*) fail "ACCELERATOR=${ACCELERATOR} is called otherwise in gcloud; use v5litepod-${ACCELERATOR#v5e-}" ;;
        v[234]-*) : "${VERSION:=tpu-ubuntu2204-base}" ;;
        v5litepod-*) : "${VERSION:=v2-alpha-tpuv5-lite}" ;;
        v5p-*) : "${VERSION:=v2-alpha-tpuv5}" ;;
        v6e-*) : "${VERSION:=v2-alpha-tpuv6e}" ;;
    esac
    [[ ${ACCELERATOR} =~ -[0-9]+$ ]] || fail "ACCELERATOR=${ACCELERATOR} is not a TPU type; give one like v4-8 or v5litepod-16"
    [[ -n ${VERSION} ]] || fail "ACCELERATOR=${ACCELERATOR} is unknown; set VERSION to its runtime version"
}

check_run() { # RECIPE; sets program, and output_macro, which takes MODEL_DIR
    local recipe=${1:-}
    [[ ${recipe} == *.gin ]] || fail "RECIPE=${recipe} is not a recipe; give a file like gin/medium_small.gin"
    [[ -f ${root}/${recipe} ]] || fail "RECIPE=${recipe} is not in ${root}; give a path from there, like gin/medium_small.gin"
    case ${recipe##*/} in
        eval_*) program=eval output_macro=EVAL_OUTPUT_DIR ;;
        infer_*) program=infer output_macro=INFER_OUTPUT_DIR ;;
        *) program=train output_macro=MODEL_DIR ;;
    esac
    [[ -n ${MODEL_DIR} ]] || fail "MODEL_DIR is not set; give the run's directory, like gs://BUCKET/RUN"
    if ((several)); then
        [[ ${MODEL_DIR} == gs://* ]] ||
            fail "MODEL_DIR=${MODEL_DIR} is on one host's disk and there are several hosts; give a gs:// path"
        [[ ${program} == train || ${ENGINE} == builtin ]] ||
            fail "RECIPE=${recipe} evaluates or infers, which ENGINE=t5x does on one host only; use ENGINE=builtin, or one host"
    fi
}

# ---- the machine

create() {
    local flags
    local command=(gcloud compute tpus tpu-vm create "${NAME}" "${at[@]}")
    if [[ ${KIND} == gpu ]]; then
        # The scope allows the host to write to buckets; its service account determines which ones.
        command=(gcloud compute instances create "${names[@]}" "${at[@]}" --machine-type="${ACCELERATOR}"
            --image-family="${IMAGE_FAMILY}" --image-project="${IMAGE_PROJECT}" --boot-disk-size="${DISK_GB}GB"
            --maintenance-policy=TERMINATE --metadata=install-nvidia-driver=True --scopes=cloud-platform)
        [[ ${SPOT} == 0 ]] || command+=(--provisioning-model=SPOT --instance-termination-action=STOP)
    elif [[ ${QUEUED} == 1 ]]; then
        command=(gcloud compute tpus queued-resources create "${NAME}" "${at[@]}" --node-id="${NAME}"
            --accelerator-type="${ACCELERATOR}" --runtime-version="${VERSION}")
    else
        command+=(--accelerator-type="${ACCELERATOR}" --version="${VERSION}")
    fi
    [[ ${KIND} == gpu || ${SPOT} == 0 ]] || command+=(--spot)
    [[ -z ${SERVICE_ACCOUNT} ]] || command+=(--service-account="${SERVICE_ACCOUNT}")
    read -r -a flags <<<"${CREATE_FLAGS}"
    call "${command[@]}" ${flags[@]+"${flags[@]}"}
    [[ ${QUEUED} == 0 ]] || wait_in_queue
}

wait_in_queue() {
    local answer
    while answer=$(state) && [[ ${answer} != READY ]]; do
        printf '%s %s is %s; polling again in %s s\n' "$(date '+%F %T')" "${NAME}" "${answer}" "${POLL}"
        case ${answer} in
            *ING | ACCEPTED | WAITING_FOR_RESOURCES | UNKNOWN) sleep "${POLL}" ;;
            *) fail "ACCELERATOR=${ACCELERATOR}: the queue answered ${answer}; delete ${NAME}, then create it again" ;;
        esac
    done
}

delete() {
    case ${KIND}${QUEUED} in
        gpu*) call gcloud compute instances delete "${names[@]}" "${at[@]}" --quiet ;;
        tpu1) call gcloud compute tpus queued-resources delete "${NAME}" "${at[@]}" --force --quiet ;;
        tpu0) call gcloud compute tpus tpu-vm delete "${NAME}" "${at[@]}" --quiet ;;
    esac
}

state() {
    local answer=ACTIVE
    if [[ ${KIND} == gpu ]]; then
        state_of_gpu_hosts
        return
    fi
    if [[ ${QUEUED} == 1 ]]; then
        answer=$(ask ACTIVE gcloud compute tpus queued-resources describe "${NAME}" "${at[@]}" --format='value(state.state)')
    fi
    if [[ ${answer} == ACTIVE ]]; then
        answer=$(ask READY gcloud compute tpus tpu-vm describe "${NAME}" "${at[@]}" --format='value(state)')
        # The request exists without its TPU, which was preempted: the request must be deleted too.
        [[ ${QUEUED}${answer} != 1MISSING ]] || answer=SUSPENDED
    fi
    echo "${answer}"
}

state_of_gpu_hosts() {
    local name answers
    answers=$(for name in "${names[@]}"; do
        ask RUNNING gcloud compute instances describe "${name}" "${at[@]}" --format='value(status)'
    done | sort -u)
    case ${answers} in
        RUNNING) echo READY ;;
        MISSING$'\n'*) echo TERMINATED ;; # one is missing: all must be recreated
        *$'\n'*) grep -v -m 1 RUNNING <<<"${answers}" ;;
        *) echo "${answers}" ;;
    esac
}

ask() { # GOOD COMMAND...: the output of the command; a dry run assumes GOOD
    local good=$1 answer
    shift
    if [[ ${DRY_RUN} == 1 ]]; then
        call "$@"
        echo "${good}"
    elif answer=$("$@" 2>"${scratch}/error"); then
        echo "${answer}"
    elif grep -q -e NOT_FOUND -e 'was not found' "${scratch}/error"; then
        echo MISSING
    else
        cat "${scratch}/error" >&2
        echo UNKNOWN
    fi
}

# ---- its hosts

on_hosts() { # all|NUMBER LINE: bash runs the line there, in the home directory
    local i
    if [[ ${KIND} == tpu ]]; then
        call gcloud compute tpus tpu-vm ssh "${NAME}" "${ssh_at[@]}" --worker="$1" --command="$2"
        return
    fi
    for ((i = 0; i < ${#names[@]}; i++)); do
        [[ $1 == all || $1 == "${i}" ]] || continue
        call gcloud compute ssh "${names[i]}" "${ssh_at[@]}" --command="$2" || return
    done
}

setup() {
    local extra=tpu data=() archive=${scratch}/explainft.tar.gz buckets mounts="" name tries=1
    [[ ${KIND} == tpu ]] || extra=${CUDA}
    if [[ -n ${DATA_CONFIG} && ${TFDS_DATA_DIR} != gs://* ]]; then
        data=(--config "${DATA_CONFIG}")
        [[ -z ${TFDS_DATA_DIR} ]] || data+=(--tfds_data_dir "${TFDS_DATA_DIR}")
    fi
    read -r -a buckets <<<"$(buckets_to_mount)"
    # First, because the rest is slow: a bucket without access for the hosts is reported at once.
    [[ ${#buckets[@]} == 0 ]] || mounts="$(quote explainft/tpu_scripts/on_host.sh mount "${buckets[@]}") && "
    [[ ${DRY_RUN} == 1 || -z $(git -C "${root}" status --porcelain) ]] ||
        printf 'machine.sh: warning: uncommitted changes are not copied; the hosts get %s\n' "${COMMIT}" >&2
    call git -C "${root}" archive --format=tar.gz --output="${archive}" "${COMMIT}"
    until on_hosts all true; do # a machine may be ready before its ssh is
        ((tries++ < 10)) || fail "NAME=${NAME} does not answer ssh; check the firewall, or set SSH_FLAGS"
        sleep "${POLL}"
    done
    if [[ ${KIND} == tpu ]]; then
        call gcloud compute tpus tpu-vm scp "${archive}" "${NAME}:explainft.tar.gz" "${ssh_at[@]}" --worker=all
    else
        for name in "${names[@]}"; do
            call gcloud compute scp "${archive}" "${name}:explainft.tar.gz" "${ssh_at[@]}"
        done
    fi
    on_hosts all "rm -rf explainft && mkdir explainft && tar -xzf explainft.tar.gz -C explainft && ${mounts}$(
        quote explainft/tpu_scripts/on_host.sh setup "${ENGINE}" "${extra}" "${PYTHON_VERSION}" ${data[@]+"${data[@]}"}
    )"
}

buckets_to_mount() { # the built-in engine writes to directories only; see on_host.sh
    local path found=" "
    for path in "${MODEL_DIR}" "${EXPLAINFT_CACHE_DIR}"; do
        [[ ${ENGINE} == builtin && ${path} == gs://* ]] || continue
        path=${path#gs://}
        [[ ${found} == *" ${path%%/*} "* ]] || found+="${path%%/*} "
    done
    echo "${found}"
}

run() { # RECIPE FLAG...
    local i flag=--multihost where
    [[ ${ENGINE} == builtin ]] || flag=--multiprocess_gpu
    if ((several == 0)); then
        on_hosts all "$(start_line "$@")"
    elif [[ ${KIND} == tpu ]]; then
        # JAX finds a TPU's hosts. T5X's flag, for all its name, is jax.distributed.initialize() on these too, without
        # which Orbax, and so T5X's train.py, saves no checkpoint of several processes.
        on_hosts all "$(start_line "$@" "${flag}")"
    else
        where=("--coordinator_address=${names[0]}:8476" "--process_count=${HOSTS}")
        for ((i = 0; i < HOSTS; i++)); do
            on_hosts "${i}" "$(start_line "$@" "${flag}" "${where[@]}" "--process_index=${i}")"
        done
    fi
}

start_line() { # RECIPE FLAG...
    local recipe=$1 words=(env)
    shift
    [[ -z ${EXPLAINFT_CACHE_DIR} ]] || words+=("EXPLAINFT_CACHE_DIR=${EXPLAINFT_CACHE_DIR}")
    [[ -z ${EXPLAINFT_T5_VOCAB} ]] || words+=("EXPLAINFT_T5_VOCAB=${EXPLAINFT_T5_VOCAB}")
    words+=(explainft/tpu_scripts/on_host.sh start "${ENGINE}" "${program}" "--gin_file=${recipe}")
    words+=("--gin.${output_macro}=$(gin_string "${MODEL_DIR}")")
    [[ -z ${INITIAL_CHECKPOINT_PATH} || ${program} != train ]] ||
        words+=("--gin.INITIAL_CHECKPOINT_PATH=$(gin_string "${INITIAL_CHECKPOINT_PATH}")")
    [[ -z ${TFDS_DATA_DIR} ]] || words+=("--tfds_data_dir=${TFDS_DATA_DIR}")
    quote "${words[@]}" "$@"
}

gin_string() { # T5X requires quotes around strings; the built-in engine accepts them
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

job() { # the status of the hosts; where they differ, the run must be started again on all of them
    local answer script=explainft/tpu_scripts/on_host.sh
    answer=$(on_hosts all "if test -x ${script}; then ${script} status; else echo absent; fi" | sort -u) || answer=unreachable
    case ${answer} in
        *failed*) grep -m 1 failed <<<"${answer}" ;;
        finished$'\n'running) echo running ;;
        *$'\n'*) echo stopped ;;
        *) echo "${answer:-unreachable}" ;;
    esac
}

watch() {
    on_hosts 0 'explainft/tpu_scripts/on_host.sh watch'
}

stop() {
    on_hosts all 'if test -x explainft/tpu_scripts/on_host.sh; then explainft/tpu_scripts/on_host.sh stop; fi'
}

fetch() {
    local from=${MODEL_DIR%/} destination
    [[ -n ${from} ]] || fail "MODEL_DIR is not set; give the run's directory"
    destination=${DESTINATION:-runs/${from##*/}}
    call mkdir -p "${destination}"
    if [[ ${from} == gs://* ]]; then
        call gcloud storage rsync --recursive --exclude='(.*/)?(checkpoints/|checkpoint_[0-9]).*' "${from}" "${destination}"
    elif [[ ${KIND} == tpu ]]; then
        call gcloud compute tpus tpu-vm scp --recurse "${NAME}:${from}" "${destination}" "${ssh_at[@]}" --worker=0
    else
        call gcloud compute scp --recurse "${NAME}:${from}" "${destination}" "${ssh_at[@]}"
    fi
}

task=${1:-}
shift || true
case ${task} in
    create | setup | run | watch | stop | fetch | delete | state | job) ;;
    *) fail "'${task}' is not a command; use create, setup, run, watch, stop, fetch, delete, state or job" ;;
esac
check_settings
[[ ${task} == fetch && ${MODEL_DIR} == gs://* ]] || check_machine
[[ ${task} != run ]] || check_run "$@"
if [[ ${DRY_RUN} == 1 ]]; then
    scratch=/tmp
    "${task}" "$@" >/dev/null
else
    scratch=$(mktemp -d)
    trap 'rm -rf "${scratch}"' EXIT
    "${task}" "$@"
fi
