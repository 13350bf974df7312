"""How much work a phase is, from the settings alone: problems of a split, layers, solutions under steering."""

from __future__ import annotations

from common.config import Config
from common.phases import PhaseSpec, get_phase
from common.profiles import Profile
from common.runs.artifacts import PhasePaths
from common.runs.metadata import read_record

SPLIT_TENTHS = {"sae": 0, "hyperparams": 1, "validation": 2}
MBPP_PROBLEMS = 974


def split_problems(split: str, config: Config) -> int:
    """Returns how many problems a split has: those that phase 0.1 found, else those that it would find in MBPP."""
    record = read_record(PhasePaths(config.phase_dir("0.1")))
    if record is not None:
        return int(record["sizes"][split])
    extra = MBPP_PROBLEMS % 10 if split == "sae" else 0
    return MBPP_PROBLEMS // 10 * config.phase0_1_ratios[SPLIT_TENTHS[split]] + extra


def phase_problems(spec: PhaseSpec, config: Config) -> int:
    """Returns how many problems the split of a phase has."""
    return split_problems(spec.split or "sae", config)


def captured_layers(config: Config, profile: Profile) -> int:
    """Returns how many layers are captured."""
    chosen = config.activation_layers
    return profile.n_layers if chosen is None else len(chosen)


def coefficient_solutions(config: Config) -> int:
    """Returns how many solutions phase 4.5 generates: screening, the grid, and the final evaluation."""
    screened = config.phase4_5_candidates if config.phase4_5_candidates > 1 else 0
    cells = screened + len(config.phase4_5_coefficients)
    tried = 1 + 2 * cells * (1 + config.phase4_5_random_directions)
    problems = phase_problems(get_phase("4.5"), config)
    few = min(config.phase4_5_problems_per_coeff, problems)
    final = min(config.phase4_5_final_eval_problems, problems - few)
    return few * tried + final * (1 + 2 * (1 + config.phase4_5_random_directions))


def effect_solutions(config: Config) -> int:
    """Returns how many solutions phases 4.8 and 7.6 generate: zero and targets everywhere, controls on theirs."""
    problems = phase_problems(get_phase("4.8"), config)
    controlled = problems if config.phase4_8_control_problems is None else config.phase4_8_control_problems
    return 3 * problems + 4 * config.phase4_8_controls * min(controlled, problems)


STEERED = {"4.5": coefficient_solutions, "4.8": effect_solutions, "7.6": effect_solutions}
