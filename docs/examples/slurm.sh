#!/usr/bin/env bash
#SBATCH --job-name=tttkit
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# Trains on 4 nodes of 8 GPUs: sbatch docs/examples/slurm.sh DATA RUN
# Two minutes before the time limit Slurm sends SIGTERM: the run saves and ends. Start the job again and it goes on.
set -euo pipefail

data=${1:?usage: sbatch slurm.sh DATA RUN}
run=${2:?usage: sbatch slurm.sh DATA RUN}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# srun starts torchrun once per node; torchrun starts one rank for each GPU.
exec srun --kill-on-bad-exit=1 torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node 8 \
  --max-restarts 3 \
  --rdzv-backend c10d \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-endpoint "$head:29500" \
  -m tttkit_cli train --preset curriculum-100k --data "$data" --out "$run" --grace 100
