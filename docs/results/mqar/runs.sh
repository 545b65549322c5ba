#!/usr/bin/env bash
# The models behind results.json, for seed $1: bash runs.sh SEED. Every command goes on where it was interrupted.
# Gated DeltaNet has convolutions of its own, so it gets none in front of its blocks.
set -euo pipefail
seed=$1
train() { # train NAME OPTION…
    tttkit train --preset mqar --seed "$seed" --out "runs/$1-$seed" "${@:2}"
}
no_convolution="--set model.pre_conv=false"

train transformer --model transformer
train ttt-linear
train gated-deltanet --model gated-deltanet $no_convolution
train ttt-hybrid --set 'model.pattern=["ttt-linear", "sw"]'
train gdn-hybrid --set 'model.pattern=["gated-deltanet", "sw"]' $no_convolution
for kind in deltanet mamba2; do train $kind --model $kind $no_convolution; done
for kind in titans rwkv7 sw ttt-mlp lact; do train $kind --model $kind; done
tttkit recall runs/*-"$seed"/final_model --task mqar --out "recall-$seed"
