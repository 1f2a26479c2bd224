#!/usr/bin/env bash
#SBATCH --job-name=ltdd-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# A Ray cluster on the nodes of a Slurm job, and one run on it. From the repository's folder:
#   sbatch deploy/slurm.sh configs/cifar10_lt/if100_ipc10.yaml --set output=/shared/runs ...
# The home folder and `output` must be shared by the nodes. Submit again to resume.
set -euo pipefail

source .venv/bin/activate
ray get-auth-token --generate > /dev/null  # once; later calls keep the token
chmod 600 ~/.ray/auth_token
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# All nodes end together, so no node waits for another to take over its work.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}  # not by a pipe to `head`, which may end before scontrol has written all
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))  # two jobs may share a node

# Step 0 runs on every node: the first one is the head, the others join it.
srun --overlap bash -c '
    options="--num-cpus=$SLURM_CPUS_ON_NODE --num-gpus=${SLURM_GPUS_ON_NODE:-0}"
    options+=" --log-color=false --block"
    if [ "$SLURM_NODEID" = 0 ]; then
        options+=" --head --node-ip-address=$0 --port=$1"
    else
        options+=" --address=$0:$1"
        until ray health-check --address "$0:$1" 2> /dev/null; do sleep 1; done
    fi
    # Ray gives a node 30 s to start, too little for a busy one.
    until ray start $options; do sleep 5; done' "$address" "$port" &
cluster=$!
trap 'kill "$cluster"' EXIT

# By itself, `ray.init` waits for minutes where no head answers.
until ray health-check --address "$address:$port" 2> /dev/null && nodes=$(
    timeout 60 python -c 'import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR")
print(len(ray.nodes()))' "$address:$port" 2> /dev/null
) && [ "$nodes" = "$SLURM_NNODES" ]; do
    kill -0 "$cluster"  # ends the script if the cluster did not start
    if ((SECONDS > 600)); then  # a node that fails would hold the others until the time limit
        echo "only ${nodes:-0} of $SLURM_NNODES nodes have started Ray after ten minutes" >&2
        exit 1
    fi
    sleep 2
done
ltdd-ray run "$@" compute.address="$address:$port"
