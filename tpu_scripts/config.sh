# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the scripts that source this file
# The settings of machine.sh and keep_running.sh. Environment variables override this file. A switch is 0 or 1.
# No setting is a secret: hosts access buckets as their service account.

# ---- the machine
: "${KIND:=tpu}"             # tpu: a TPU VM or pod; gpu: Compute Engine instances
: "${NAME:=}"                # the name of the machine
: "${PROJECT:=}"             # the Google Cloud project
: "${ZONE:=}"                # us-east5-b
: "${ACCELERATOR:=}"         # tpu: v4-8, v5litepod-16, v5p-8, v6e-8; gpu: a machine type with GPUs, a2-highgpu-8g
: "${HOSTS:=1}"              # gpu: number of instances (NAME-0, NAME-1, ... if more than one)
: "${SPOT:=0}"               # 1: cheaper and preemptible; see keep_running.sh
: "${QUEUED:=0}"             # tpu, 1: wait in the queue for capacity (queued resources)
: "${VERSION:=}"             # tpu: runtime version; empty: the default of the accelerator type
: "${IMAGE_FAMILY:=common-cu129-ubuntu-2204-nvidia-580}" # gpu: an image with NVIDIA's driver
: "${IMAGE_PROJECT:=deeplearning-platform-release}"
: "${DISK_GB:=200}"          # gpu: size of the boot disk
: "${SERVICE_ACCOUNT:=}"     # the e-mail address of a service account with access to the buckets
: "${CREATE_FLAGS:=}"        # more flags for gcloud's create, separated by spaces: --network=..., --labels=..., --reserved
: "${SSH_FLAGS:=}"           # more flags for gcloud's ssh and scp, separated by spaces: --internal-ip

# ---- what runs on it
: "${ENGINE:=builtin}"       # builtin or t5x
: "${COMMIT:=HEAD}"          # the commit of this repository that hosts get
: "${PYTHON_VERSION:=3.11}"  # 3.11 or 3.12
: "${CUDA:=cuda12}"          # gpu: jax's extra, cuda12 or cuda13
: "${DATA_CONFIG:=listops30}" # the dataset that setup builds on each host, unless TFDS_DATA_DIR is a bucket

# ---- where things are: gs://BUCKET/..., or an absolute path on a single host
# For the built-in engine, hosts mount the buckets of MODEL_DIR and EXPLAINFT_CACHE_DIR. With a hierarchical namespace
# (gcloud storage buckets create --enable-hierarchical-namespace --uniform-bucket-level-access) checkpoints are
# committed atomically.
: "${MODEL_DIR:=}"               # the run's directory
: "${TFDS_DATA_DIR:=}"           # datasets (in a bucket: built once, anywhere); empty: the host's disk
: "${EXPLAINFT_CACHE_DIR:=}"     # token caches; empty: the host's disk, which is faster
: "${EXPLAINFT_T5_VOCAB:=}"      # T5's SentencePiece model; empty: its public bucket
: "${INITIAL_CHECKPOINT_PATH:=}" # initial checkpoint; empty: the recipe's
: "${DESTINATION:=}"             # the local directory of fetch; empty: runs/<last part of MODEL_DIR>

# ---- keep_running.sh, and the waiting of machine.sh
: "${POLL:=60}"         # seconds between polls of the machine
: "${RETRY_PAUSE:=120}" # seconds before a retry
: "${RETRIES:=50}"      # maximum number of retries, or unlimited
