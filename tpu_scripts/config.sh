# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the scripts that source this file
# The settings of machine.sh and keep_running.sh. A variable of the environment wins over this file. A switch is 0 or 1.
# Nothing here is a secret: hosts reach buckets as their service account.

# ---- the machine
: "${KIND:=tpu}"             # tpu: a TPU VM, a pod of them too; gpu: Compute Engine instances
: "${NAME:=}"                # what to call it
: "${PROJECT:=}"             # the Google Cloud project
: "${ZONE:=}"                # us-east5-b
: "${ACCELERATOR:=}"         # tpu: v4-8, v5litepod-16, v5p-8, v6e-8; gpu: a machine type with GPUs, a2-highgpu-8g
: "${HOSTS:=1}"              # gpu: how many instances (NAME-0, NAME-1, ... where there are several)
: "${SPOT:=0}"               # 1: cheaper, and may be taken away at any time; see keep_running.sh
: "${QUEUED:=0}"             # tpu, 1: wait in the queue for capacity (queued resources)
: "${VERSION:=}"             # tpu: runtime version; empty: the one that the accelerator type needs
: "${IMAGE_FAMILY:=common-cu129-ubuntu-2204-nvidia-580}" # gpu: an image with NVIDIA's driver
: "${IMAGE_PROJECT:=deeplearning-platform-release}"
: "${DISK_GB:=200}"          # gpu: size of the boot disk
: "${SERVICE_ACCOUNT:=}"     # the e-mail address of a service account that may use the buckets
: "${CREATE_FLAGS:=}"        # more flags for gcloud's create, by spaces: --network=..., --labels=..., --reserved
: "${SSH_FLAGS:=}"           # more flags for gcloud's ssh and scp, by spaces: --internal-ip

# ---- what runs on it
: "${ENGINE:=builtin}"       # builtin or t5x
: "${COMMIT:=HEAD}"          # the commit of this repository that hosts get
: "${PYTHON_VERSION:=3.11}"  # 3.11 or 3.12
: "${CUDA:=cuda12}"          # gpu: jax's extra, cuda12 or cuda13
: "${DATA_CONFIG:=listops30}" # the dataset that setup builds on each host, unless TFDS_DATA_DIR is a bucket

# ---- where things are: gs://BUCKET/..., or an absolute path on a single host
# For the built-in engine, hosts mount the buckets of MODEL_DIR and EXPLAINFT_CACHE_DIR. With a hierarchical namespace
# (gcloud storage buckets create --enable-hierarchical-namespace --uniform-bucket-level-access) a checkpoint appears in
# a bucket all at once.
: "${MODEL_DIR:=}"               # the run's folder
: "${TFDS_DATA_DIR:=}"           # datasets (a bucket: build them once from anywhere); empty: the host's disk
: "${EXPLAINFT_CACHE_DIR:=}"     # token caches; empty: the host's disk, which is faster
: "${EXPLAINFT_T5_VOCAB:=}"      # T5's SentencePiece model; empty: its public bucket
: "${INITIAL_CHECKPOINT_PATH:=}" # where training starts; empty: the recipe's
: "${DESTINATION:=}"             # the local folder that fetch fills; empty: runs/<last part of MODEL_DIR>

# ---- keep_running.sh, and the waiting of machine.sh
: "${POLL:=60}"         # seconds between two looks at the machine
: "${RETRY_PAUSE:=120}" # seconds before a retry
: "${RETRIES:=50}"      # how many retries, or unlimited
