#!/usr/bin/env bash
# Keeps a run going on a preemptible machine: creates the machine, sets it up and starts the run; after a preemption,
# deletes what is left and starts again. The run resumes from the latest checkpoint in MODEL_DIR, a bucket that the
# hosts mount as a directory for the built-in engine. On SIGTERM, from stop or from a host that shuts down, that engine
# saves and exits with 143; otherwise at most CHECKPOINT_PERIOD steps are lost.
#
#   SPOT=1 tpu_scripts/keep_running.sh RECIPE [FLAG...]    # settings and flags as for machine.sh run
#
# It can be stopped and started again at any time: it watches a run in progress, else it starts the run, which exits at
# once if it is complete. To stop the run itself, stop this script first.
# Exit code 0: the run is complete; 1: it failed by itself, or no retries are left.
set -euo pipefail

machine=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/machine.sh
# shellcheck source=tpu_scripts/config.sh
source "${machine%/*}/config.sh"
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 # no terminal to answer prompts
retries=0
seen_running="" # 1 once the run was seen in progress: the end of an earlier run does not count

fail() {
    printf 'keep_running.sh: error: %s\n' "$1" >&2
    exit 2
}

log() { # a decision, with its time
    printf '%s %s\n' "$(date '+%F %T')" "$1"
}

poll_later() {
    log "$1; polling again in ${POLL} s"
    sleep "${POLL}"
}

retry() { # WHY: counts, and pauses or gives up
    retries=$((retries + 1))
    if [[ ${RETRIES} != unlimited ]] && ((retries > RETRIES)); then
        log "$1; none of RETRIES=${RETRIES} is left"
        exit 1
    fi
    log "$1; retry ${retries} of ${RETRIES} in ${RETRY_PAUSE} s"
    sleep "${RETRY_PAUSE}"
}

start() { # RECIPE FLAG...
    "${machine}" stop && "${machine}" setup && "${machine}" run "$@" && seen_running=1
}

[[ ${RETRIES} =~ ^([0-9]+|unlimited)$ ]] || fail "RETRIES=${RETRIES} must be an integer or unlimited"
[[ ${RETRY_PAUSE} =~ ^[0-9]+$ ]] || fail "RETRY_PAUSE=${RETRY_PAUSE} must be an integer, in seconds"
DRY_RUN=1 "${machine}" run "$@" >/dev/null # errors show now, before the machine costs anything
[[ ${MODEL_DIR} == gs://* ]] || fail "MODEL_DIR=${MODEL_DIR} is deleted with the machine; give a gs:// path"
if [[ ${DRY_RUN:-0} == 1 ]]; then
    "${machine}" create
    start "$@"
    exit
fi
COMMIT=$(git -C "${machine%/*}" rev-parse --verify "${COMMIT}^{commit}")
export COMMIT # every retry runs the code of the first start

while :; do
    state=$("${machine}" state)
    job=""
    [[ ${state} != READY ]] || job=$("${machine}" job 2>/dev/null) # gcloud reports each connection
    [[ -n ${seen_running} || ! ${job} =~ ^(finished|failed|stopped) ]] || job=absent
    [[ ${job} != running ]] || seen_running=1
    case ${state}:${job} in
        READY:running | READY:unreachable) poll_later "${NAME} is READY, the run is ${job}" ;;
        READY:finished)
            log "${NAME} is READY, the run is finished; the machine costs until it is deleted"
            exit 0
            ;;
        READY:absent)
            log "${NAME} is READY, no run in progress; setting it up and starting the run"
            start "$@" || retry "the start failed"
            ;;
        READY:*) # stopped or failed, the first sign of a preemption
            poll_later "${NAME} is READY, the run ${job}"
            [[ $("${machine}" state) == READY ]] || continue
            if [[ ${job} == failed* ]]; then
                log "${NAME} is still READY, so the run ${job} by itself; machine.sh watch shows its log"
                exit 1
            fi
            retry "${NAME} is still READY, the run was stopped"
            start "$@" || log "the start failed"
            ;;
        MISSING:*)
            log "${NAME} is missing; creating it"
            "${machine}" create || retry "${NAME} was not created"
            ;;
        *ING:* | ACCEPTED:* | WAITING_FOR_RESOURCES:* | UNKNOWN:*) poll_later "${NAME} is ${state}" ;;
        *) # PREEMPTED, TERMINATED, FAILED, SUSPENDED, STOPPED
            log "${NAME} is ${state}; deleting it"
            "${machine}" delete || log "${NAME} was not deleted"
            retry "${NAME} was ${state}"
            ;;
    esac
done
