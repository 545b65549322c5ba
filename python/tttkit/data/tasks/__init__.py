"""Synthetic tasks that ask what a model remembers: their examples are made from a seed, for training and for `recall`.

An example of L tokens is L - 1 words, and the end-of-text token in training. Words are numbers; word n has the id n.
"""

from tttkit.data.tasks.copying import copy, selective_copy
from tttkit.data.tasks.examples import VOCABULARY as VOCABULARY
from tttkit.data.tasks.examples import Examples as Examples
from tttkit.data.tasks.examples import Maker
from tttkit.data.tasks.induction import induction
from tttkit.data.tasks.mqar import mqar

TASKS: dict[str, Maker] = {"mqar": mqar, "copy": copy, "selective-copy": selective_copy, "induction": induction}
"""The tasks by name."""
