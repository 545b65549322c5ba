#!/usr/bin/env bash
# The runs behind results.json, for seed $1: bash runs.sh SEED. DATA is made as docs/length-generalization.md says.
# Every command goes on where it was interrupted. Sizes of the feed-forward make all models equal within 0.5 %.
set -euo pipefail
seed=$1
train() { # train NAME OPTION…
    tttkit train --data "${DATA:-data}" --out "runs/$1-$seed" --batch-size 32 --threads 1 --no-early-stop --num-eval-checkpoints 1 \
        --eval-num-sequences 2 --set evaluation.selection_windows=4096 --seed "$seed" --max-steps 600 --save-every 120 \
        --learning-rate 3e-3 "${@:2}"
}
branch() { # branch NAME BASE OPTION…: the last fifth again, with other initial states
    tttkit train --branch-from "runs/$2-$seed@480" --out "runs/$1-$seed" "${@:3}"
}
size() { echo "--set model.intermediate_size=$1"; }
gdn='"gated-deltanet"'

train sw --model sw $(size 384)
train ttt --model ttt-linear $(size 368)
train gdn --model gated-deltanet $(size 288)
train mamba2 --model mamba2 $(size 208)
train gdn-hybrid --set model.architecture=hybrid --set "model.pattern=[$gdn, $gdn, $gdn, \"sw\"]" $(size 312)
branch ttt-contiguous ttt --initial-state contiguous
branch ttt-k ttt --initial-state contiguous --set train.initial_state_decay=0.9
branch ttt-passed ttt --initial-state passed
branch gdn-contiguous gdn --initial-state contiguous
