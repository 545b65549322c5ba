"""Why a model holds up past its window or not: its state, its inner loss, its effective memory, its key tokens."""
