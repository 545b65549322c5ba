#!/usr/bin/env bash
# The runs behind results.json, for seed $1: bash runs.sh SEED [GROUP…], by default every group. `data` is made by
# data.sh. Every command goes on where it was interrupted. Sizes of the feed-forward make all models equal to 0.5 %.
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
after() { # after NAME BASE OPTION…: 5 % more steps from the finished model, at a tenth of the peak rate
    train "$1" --init-from "runs/$2-$seed/final_model" --max-steps 30 --save-every 30 --learning-rate 3e-4 "${@:3}"
}
size() { echo "--set model.intermediate_size=$1"; }
pattern() { echo "--set model.architecture=hybrid --set model.pattern=[\"$1\",\"$1\",\"$1\",\"sw\"]"; }
gdn=gated-deltanet
paper="--set model.use_gate=true --set model.share_qk=true --set model.pre_conv=true"

baselines() {
    train sw --model sw $(size 384) # and the transformer: on windows of W they are one model
    train ttt --model ttt-linear $(size 368)
    train gdn --model $gdn $(size 288)
    train mamba2 --model mamba2 $(size 208)
}
backbone() { # the rates are the best of ../rates
    for c in 16 8 32; do
        train "ttt-paper-c$c" --model ttt-linear $paper $(size 368) --set model.mini_batch_size=$c --learning-rate 1e-2
    done
    train mlp-paper --model ttt-mlp $paper $(size 288)
    train mlp --model ttt-mlp $(size 296)
    train ttt-inner --model ttt-linear $(size 368) --set model.ttt_base_lr=0.3
    for c in 8 32; do train "ttt-c$c" --model ttt-linear $(size 368) --set model.mini_batch_size=$c; done
}
initial_states() {
    branch ttt-contiguous ttt --initial-state contiguous
    branch ttt-k ttt --initial-state contiguous --set train.initial_state_decay=0.9
    for base in ttt gdn; do
        for state in passed fitted gaussian; do branch "$base-$state" $base --initial-state $state; done
    done
    branch gdn-contiguous gdn --initial-state contiguous
    for state in zero contiguous passed fitted gaussian; do
        after "ttt-after-$state" ttt --model ttt-linear $(size 368) --initial-state $state
        after "gdn-after-$state" gdn --model $gdn $(size 288) --initial-state $state
    done
}
forgetting() {
    train ttt-decay-head --model ttt-linear $(size 368) --set model.inner_decay=head
    train ttt-decay-token --model ttt-linear $(size 368) --set model.inner_decay=token
    train ttt-rescale --model ttt-linear $(size 368) --set model.inner_rescale=true
    train ttt-paper-decay --model ttt-linear $paper $(size 368) --set model.inner_decay=token --learning-rate 1e-2
    branch ttt-decay-contiguous ttt-decay-token --initial-state contiguous
    branch ttt-paper-contiguous ttt-paper-c16 --initial-state contiguous
    branch ttt-paper-decay-contiguous ttt-paper-decay --initial-state contiguous
    train ttt-lr-decay --model ttt-linear $(size 368) --set model.inner_lr_decay=0.5
}
hybrids() {
    train gdn-hybrid $(pattern $gdn) $(size 312)
    train ttt-hybrid $(pattern ttt-linear) $(size 376)
    train ttt-parallel --model ttt-linear $(size 200) --set model.parallel_window=true
    train ttt-parallel-decay --model ttt-linear $(size 200) --set model.parallel_window=true --set model.inner_decay=token
    train gdn-parallel --model $gdn $(size 120) --set model.parallel_window=true
}
larger() { # 4.30M parameters, 8M tokens
    local run="--set model.hidden_size=256 --max-steps 3906 --save-every 300 --learning-rate 2e-3"
    train large-sw --model sw $run $(size 720)
    train large-gdn-hybrid $(pattern $gdn) $run $(size 584)
}

for group in "${@:2}"; do $group; done
[ $# -gt 1 ] || for group in baselines backbone initial_states forgetting hybrids larger; do $group; done
