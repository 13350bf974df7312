"""How many problems a batch has where no setting says so: `batch_size = 0`."""

from __future__ import annotations

from dataclasses import replace

from common.capacity import visible_gpus
from common.config import Config
from common.errors import UsageError
from common.phases import PhaseSpec
from common.profiles import load_profile

WITHOUT_GPU = 32


def sized(config: Config, spec: PhaseSpec) -> Config:
    """Returns the configuration of a phase with its batch size chosen, where it is left to us."""
    return config if config.batch_size else replace(config, batch_size=_chosen(config, spec))


def _chosen(config: Config, spec: PhaseSpec) -> int:
    if spec.needs != "model":
        return WITHOUT_GPU
    gpus = visible_gpus()
    if not gpus and not config.device.startswith("cuda"):
        return WITHOUT_GPU
    from common.model_location import model_size  # slow to import, and seldom needed
    from common.needs import automatic_batch, planned_place, role_of

    profile = load_profile(config.profile)
    try:
        size = model_size(config, profile, role_of(spec))
    except UsageError:
        return WITHOUT_GPU  # a model that is not there, or damaged, is refused where it is asked for
    return WITHOUT_GPU if size is None else automatic_batch(spec, config, profile, size, planned_place(config, gpus))
