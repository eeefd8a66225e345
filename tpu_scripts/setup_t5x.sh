#!/usr/bin/env bash
# Installs T5X at a pinned commit beside explainft, with the versions that run together. Needs the network and git.
#
#   tpu_scripts/setup_t5x.sh                        # into the environment of python3
#   ACCELERATOR=tpu PYTHON=.venv/bin/python tpu_scripts/setup_t5x.sh
#   DRY_RUN=1 tpu_scripts/setup_t5x.sh              # prints the commands and runs none
#
# PYTHON       the interpreter to install for: 3.11 or 3.12 (python3)
# ACCELERATOR  cpu, tpu, cuda12 or cuda13: what jax runs on (cpu)
# T5X_DIR      where T5X's repository is cloned to (~/t5x)
#
# A second run changes nothing, or completes what the first one left undone.
set -euo pipefail

PYTHON=${PYTHON:-python3}
ACCELERATOR=${ACCELERATOR:-cpu}
T5X_DIR=${T5X_DIR:-${HOME}/t5x}
[[ ${T5X_DIR} == /* ]] || T5X_DIR=${PWD}/${T5X_DIR}
DRY_RUN=${DRY_RUN:-0}

T5X_COMMIT=cc342d419ec3e3e9c4bf1df33c82330cafdc1e16
AIRIO_COMMIT=69897df7d9a427b947a9f7bb4164c7782b43e601
JESTIMATOR_COMMIT=326824a477feef6d92e6f44175000907a72899ca
# What T5X imports besides the dependencies of explainft.
T5X_DEPENDENCIES=(cached-property==2.0.1 chex==0.1.92 fiddle==0.3.1 grain==0.2.18 jaxtyping==0.3.11)

fail() {
    printf 'setup_t5x.sh: error: %s\n' "$1" >&2
    exit 2
}

run() {
    printf '%q ' "$@"
    printf '\n'
    if [[ ${DRY_RUN} == 0 ]]; then
        "$@"
    fi
}

case ${ACCELERATOR} in
    cpu) jax=jax ;;
    tpu | cuda12 | cuda13) jax="jax[${ACCELERATOR}]" ;;
    *) fail "ACCELERATOR=${ACCELERATOR} is unknown; use cpu, tpu, cuda12 or cuda13" ;;
esac
[[ ${DRY_RUN} == [01] ]] || fail "DRY_RUN=${DRY_RUN} must be 0 or 1"
[[ ${DRY_RUN} == 1 ]] || command -v "${PYTHON}" >/dev/null || fail "PYTHON=${PYTHON} is not an executable; give an interpreter"
[[ ${DRY_RUN} == 1 ]] || command -v git >/dev/null || fail "git is missing; install it with the system's packages"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pip=("${PYTHON}" -m pip install --disable-pip-version-check)

run "${pip[@]}" -c "${root}/constraints.txt" -e "${root}" "${jax}" "${T5X_DEPENDENCIES[@]}"

# A clone: train.py runs from it, and its gin files are read from it.
run git init --quiet "${T5X_DIR}"
run git -C "${T5X_DIR}" fetch --quiet --depth=1 https://github.com/google-research/t5x "${T5X_COMMIT}"
run git -C "${T5X_DIR}" checkout --quiet --detach "${T5X_COMMIT}"

# Without their dependencies, which are the newest commits of flax, optax, clu and seqio, and releases of 2023.
run "${pip[@]}" --no-deps -e "${T5X_DIR}" \
    "airio @ git+https://github.com/google/airio@${AIRIO_COMMIT}" \
    "jestimator @ git+https://github.com/google-research/jestimator@${JESTIMATOR_COMMIT}"

run env JAX_PLATFORMS=cpu "${PYTHON}" -c 'import t5x.train, t5x.eval, t5x.infer, tasks'

printf -v quoted '%q' "${T5X_DIR}"
cat <<END

T5X is in ${T5X_DIR}. From ${root}:

    export T5X_DIR=${quoted}
    ${PYTHON} \${T5X_DIR}/t5x/train.py --gin_file=gin/medium_small.gin --gin.MODEL_DIR='"/tmp/run"'
END
