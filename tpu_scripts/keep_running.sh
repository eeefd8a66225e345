#!/usr/bin/env bash
# Keeps a run going on a machine that may be taken away: creates it, sets it up and starts the run; when the machine is
# gone, deletes what is left of it and does so again. The run goes on from the newest checkpoint in MODEL_DIR, a bucket
# (to the built-in engine a folder, as which the hosts mount it). SIGTERM, from stop or from a host that is shut down,
# makes that engine save and exit with 0; how much is lost at most, CHECKPOINT_PERIOD says.
#
#   SPOT=1 tpu_scripts/keep_running.sh RECIPE [FLAG...]    # settings and flags as for machine.sh run
#
# It may be ended and started again at any time: a run in progress is watched further, else the run is started, which
# costs a complete one no more than a look at its folder. To stop the run itself, end this first.
# Exit code 0: the run is complete; 1: it failed by itself, or the retries are used up.
set -euo pipefail

machine=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/machine.sh
# shellcheck source=tpu_scripts/config.sh
source "${machine%/*}/config.sh"
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 # nobody is there to answer
retries=0
seen_running="" # 1 once the run is known to be in progress: how an earlier one ended is no business of ours

fail() {
    printf 'keep_running.sh: error: %s\n' "$1" >&2
    exit 2
}

say() { # a decision, with its time
    printf '%s %s\n' "$(date '+%F %T')" "$1"
}

look_later() {
    say "$1; next look in ${POLL} s"
    sleep "${POLL}"
}

retry() { # WHY: counts, and pauses or gives up
    retries=$((retries + 1))
    if [[ ${RETRIES} != unlimited ]] && ((retries > RETRIES)); then
        say "$1; RETRIES=${RETRIES} are used up"
        exit 1
    fi
    say "$1; retry ${retries} of ${RETRIES} in ${RETRY_PAUSE} s"
    sleep "${RETRY_PAUSE}"
}

start() { # RECIPE FLAG...
    "${machine}" stop && "${machine}" setup && "${machine}" run "$@" && seen_running=1
}

[[ ${RETRIES} =~ ^([0-9]+|unlimited)$ ]] || fail "RETRIES=${RETRIES} is neither a whole number nor unlimited"
[[ ${RETRY_PAUSE} =~ ^[0-9]+$ ]] || fail "RETRY_PAUSE=${RETRY_PAUSE} is no whole number of seconds"
DRY_RUN=1 "${machine}" run "$@" >/dev/null # mistakes show now, not after the machine was paid for
[[ ${MODEL_DIR} == gs://* ]] || fail "MODEL_DIR=${MODEL_DIR} goes when the machine goes; give a gs:// path"
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
    [[ ${state} != READY ]] || job=$("${machine}" job 2>/dev/null) # gcloud tells of each connection
    [[ -n ${seen_running} || ! ${job} =~ ^(finished|failed|stopped) ]] || job=absent
    [[ ${job} != running ]] || seen_running=1
    case ${state}:${job} in
        READY:running | READY:unreachable) look_later "${NAME} is READY, the run is ${job}" ;;
        READY:finished)
            say "${NAME} is READY, the run is finished; the machine costs until it is deleted"
            exit 0
            ;;
        READY:absent)
            say "${NAME} is READY, nothing runs there; setting it up and starting the run"
            start "$@" || retry "the start failed"
            ;;
        READY:*) # stopped or failed, as happens first when a machine is about to go
            look_later "${NAME} is READY, the run ${job}"
            [[ $("${machine}" state) == READY ]] || continue
            if [[ ${job} == failed* ]]; then
                say "${NAME} is still READY, so the run ${job} by itself; machine.sh watch shows its log"
                exit 1
            fi
            retry "${NAME} is still READY, the run was stopped"
            start "$@" || say "the start failed"
            ;;
        MISSING:*)
            say "${NAME} is not there; creating it"
            "${machine}" create || retry "${NAME} was not created"
            ;;
        *ING:* | ACCEPTED:* | WAITING_FOR_RESOURCES:* | UNKNOWN:*) look_later "${NAME} is ${state}" ;;
        *) # PREEMPTED, TERMINATED, FAILED, SUSPENDED, STOPPED
            say "${NAME} is ${state}; deleting it"
            "${machine}" delete || say "${NAME} was not deleted"
            retry "${NAME} was ${state}"
            ;;
    esac
done
