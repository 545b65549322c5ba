"""Any causal language model that transformers can load, as a `ScoringModel` (docs/any-model.md). Needs `tttkit[hf]`."""
