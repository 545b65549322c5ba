#!/usr/bin/env bash
# The data of the studies on novels: bash data.sh NOVELS. NOVELS has train/AUTHOR_TITLE_YEAR.txt and validation/.
# Of the training authors with several books, by file name, the last book of every third one goes to tune/ and that of
# the author before it to final/, beside validation/. `data` is trained on and tuned with; `final` is for the results.
set -euo pipefail
novels=$(realpath "$1")
mkdir -p text/{train,tune,final}
ln -sf "$novels"/train/*.txt text/train/
ln -sf "$novels"/validation/*.txt text/final/
number=0
for author in $(ls text/train | cut -d_ -f1 | sort | uniq -d); do
    last=$(ls text/train | grep "^${author}_" | sort | tail -1)
    case $((number++ % 3)) in
        1) mv "text/train/$last" text/final/ ;;
        2) mv "text/train/$last" text/tune/ ;;
    esac
done
tttkit data prepare text/train --validation text/tune --tokenizer bpe:4096 --out data
tttkit data prepare text/tune --validation text/final --tokenizer data/tokenizer.json --out final
