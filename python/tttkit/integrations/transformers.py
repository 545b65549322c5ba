"""Our models as models of transformers: `AutoModelForCausalLM`, `generate()`, `save_pretrained`, Trainer.

`tttkit convert MODEL OUT --to hf` writes a directory whose small `modeling_tttkit.py` imports this module. The names of
the weights are ours, so that the directory is a model directory of tttkit at the same time. Shapes: B rows, L tokens,
D width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from tttkit.config.model import ModelConfig
from tttkit.integrations.row_states import RowStates, left_padding
from tttkit.models import LanguageModel, build_model

_DEFAULTS = dataclasses.asdict(ModelConfig())
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_IS_VERSION_4 = transformers.__version__.startswith("4.")


class TttkitConfig(PretrainedConfig):  # type: ignore[misc]
    """Our `ModelConfig` as a configuration of transformers, with the same names."""

    model_type = "tttkit"

    def to_model_config(self) -> ModelConfig:
        """Return the configuration of the model itself."""
        return ModelConfig(**{name: getattr(self, name, default) for name, default in _DEFAULTS.items()})


@dataclasses.dataclass
class TttkitOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass returns."""

    loss: Tensor | None = None
    """Mean cross-entropy in nats, if labels were given."""
    logits: Tensor | None = None
    """(B, positions, V) float32."""
    state: RowStates | None = None
    """The state after the tokens, if `use_cache`."""


class TttkitForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A language model of tttkit, of any architecture of the registry."""

    config_class = TttkitConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ("Block",)
    _tied_weights_keys = [_HEAD] if _IS_VERSION_4 else {_HEAD: _EMBEDDING}
    _is_stateful = True

    def __init__(self, config: TttkitConfig) -> None:
        """Build the model on the default device, which transformers sets to `meta` while it loads weights."""
        super().__init__(config)
        language = build_model(config.to_model_config())
        self._is_complete = False
        # a list hides the model from `nn.Module`, because its parts are registered here under the names of our files
        self._language = [language]
        self.model = language.model
        self.lm_head = (
            nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            if config.tie_word_embeddings
            else language.lm_head
        )
        self.post_init()

    @property
    def language_model(self) -> LanguageModel:
        """Our own model, which shares all weights."""
        return self._language[0]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: RowStates | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **options: Any,
    ) -> TttkitOutput | tuple[Any, ...]:
        """Return the logits (B, L, V) of the token after each position of `input_ids` (B, L), and the state if cached.

        `attention_mask` (B, L) may mark padding on the left or on the right. `state` continues a text. `labels` (B, L)
        are the input ids, with -100 where no loss is wanted. `logits_to_keep` gives the logits of the last positions
        only, or of the given ones.
        """
        # version 4 of transformers does not call `_init_weights` when a file holds all weights
        if any(buffer.is_meta for buffer in self.language_model.buffers()):
            self._fill_buffers()
        keep = getattr(self.config, "use_cache", True) and not self.training if use_cache is None else use_cache
        starts = left_padding(attention_mask, input_ids) if state is None else []
        after = None
        if state is None and not keep and not any(starts):
            hidden_states = self.language_model.hidden_states(input_ids)
        else:
            hidden_states, after = RowStates.read(self.language_model, input_ids, starts, state)
        # zero keeps all positions
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.language_model.head(hidden_states[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **options)
        result = TttkitOutput(loss=loss, logits=logits, state=after if keep else None)
        return result.to_tuple() if return_dict is False else result

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: RowStates | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next forward pass: only the tokens that the state has not read."""
        unread = input_ids if state is None else input_ids[:, state.num_read :]
        return {
            "input_ids": unread, "attention_mask": attention_mask, "state": state, "use_cache": use_cache is not False,
            "logits_to_keep": 1,
        }  # fmt: skip

    def _update_model_kwargs_for_generation(
        self, outputs: TttkitOutput, model_kwargs: dict[str, Any], *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        updated: dict[str, Any] = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, *arguments, **options
        )
        updated["state"] = outputs.state
        return updated

    def _beam_search(self, *arguments: Any, **options: Any) -> Any:
        if _IS_VERSION_4:
            raise NotImplementedError("beam search needs transformers 5: version 4 loses the states of the beams")
        return super()._beam_search(*arguments, **options)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding of tokens, which may have another number of rows."""
        self.model.embed_tokens = value
        language = self.language_model
        language.config = dataclasses.replace(language.config, vocab_size=value.num_embeddings)

    def get_output_embeddings(self) -> nn.Module:
        """Return the head; of a tied model it holds the weight of the embedding."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the head."""
        self.lm_head = value
        if not self.config.tie_word_embeddings:
            self.language_model.lm_head = value

    def _init_weights(self, module: nn.Module) -> None:  # noqa: ARG002
        """Give values to what no file holds: the buffers of layers, and weights that are missing.

        The model is built with its initial weights, so there is nothing to do unless it was built on the device `meta`:
        transformers then loads and marks the weights, and calls this for each module that is not complete.
        """
        language = self.language_model
        is_loaded = [getattr(each, "_is_hf_initialized", False) for each in language.parameters()]
        if self._is_complete or not any(is_loaded):
            return
        self._is_complete = True
        missing = [name for (name, _), known in zip(language.named_parameters(), is_loaded, strict=True) if not known]
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
            if missing:
                fresh = dict(build_model(language.config).named_parameters())
                for name in missing:
                    language.get_parameter(name).copy_(fresh[name])
        self._fill_buffers()

    def _fill_buffers(self) -> None:
        """Give values to the buffers of layers, which no file holds."""
        language = self.language_model
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), _WithoutDraws():
            empty = build_model(dataclasses.replace(language.config, vocab_size=1))
        for name, buffer in empty.named_buffers():
            parent, _, attribute = name.rpartition(".")
            setattr(language.get_submodule(parent), attribute, buffer.to(language.device))


class _WithoutDraws(TorchFunctionMode):
    """Skips random initial values, so that a model costs neither time nor touched memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
